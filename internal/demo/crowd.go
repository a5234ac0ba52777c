package demo

import (
	"errors"
	"net/http"
	"strings"

	"orgcast/internal/demo/crowd"
)

// Codes of refusals of a crowd.
const (
	codeCrowdRunning = "crowd_running"
	codeTooFewFiles  = "too_few_files"
)

// startCrowd lets a crowd come. It asks for no session, as signing in asks for no password.
func (d *server) startCrowd(w http.ResponseWriter, r *http.Request) {
	if !isJSON(r) {
		refuse(w, http.StatusUnsupportedMediaType, codeBadRequest, "send a JSON object as application/json")
		return
	}
	var size crowd.Size
	if err := readJSON(r, &size); err != nil {
		refuseBody(w, err)
		return
	}
	d.shows.Lock()
	defer d.shows.Unlock()
	if d.Outages != nil && !d.Outages.Report().State.Final() {
		refuse(w, http.StatusConflict, codeRedisAway, "Redis is away; wait until it is back")
		return
	}
	err := d.Crowd.Start(size)
	switch {
	case err == nil:
		answer(w, http.StatusAccepted, d.Crowd.Report())
	case errors.Is(err, crowd.ErrRunning):
		refuse(w, http.StatusConflict, codeCrowdRunning, "a crowd is here already; wait until it has left")
	case errors.Is(err, crowd.ErrFiles):
		refuse(w, http.StatusServiceUnavailable, codeTooFewFiles, strings.TrimPrefix(err.Error(), "crowd: "))
	default:
		refuse(w, http.StatusBadRequest, codeBadRequest, strings.TrimPrefix(err.Error(), "crowd: "))
	}
}

// crowd tells how the crowd is doing, or how the latest one did. A crowd that nobody asks about
// leaves.
func (d *server) crowd(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, d.Crowd.Report())
}
