package demo

import (
	"context"
	"errors"
	"net/http"

	"orgcast/internal/demo/outage"
)

// codeRedisAway is the code of refusals while the demo has taken Redis away.
const codeRedisAway = "redis_away"

// outageRequest requests to take Redis away.
type outageRequest struct {
	// Seats are those of the people as whom the demo publishes meanwhile.
	Seats   []string `json:"seats"`
	Seconds int      `json:"seconds"`
}

// maxAuthors bounds the people of an outage.
const maxAuthors = 4

// startOutage takes Redis away. The sessions of the people are read before.
func (d *server) startOutage(w http.ResponseWriter, r *http.Request) {
	if !isJSON(r) {
		refuse(w, http.StatusUnsupportedMediaType, codeBadRequest, "send a JSON object as application/json")
		return
	}
	var req outageRequest
	if err := readJSON(r, &req); err != nil {
		refuseBody(w, err)
		return
	}
	if len(req.Seats) == 0 || len(req.Seats) > maxAuthors {
		refuse(w, http.StatusBadRequest, codeBadRequest, "name one to four seats")
		return
	}
	d.shows.Lock()
	defer d.shows.Unlock()
	if !d.Outages.Report().State.Final() {
		refuse(w, http.StatusConflict, codeRedisAway, "Redis is away already; wait until it is back")
		return
	}
	if d.Crowd != nil && !d.Crowd.Report().State.Final() {
		refuse(w, http.StatusConflict, codeCrowdRunning, "a crowd is here, and would count what is lost; wait until it has left")
		return
	}
	authors, ok := d.authors(w, r, req.Seats)
	if !ok {
		return
	}
	switch err := d.Outages.Start(authors, req.Seconds); {
	case errors.Is(err, outage.ErrSeconds):
		refuse(w, http.StatusBadRequest, codeBadRequest, "Redis can be away for 1 to 10 seconds")
	case err != nil:
		d.fail(w, "begin an outage", err)
	default:
		answer(w, http.StatusAccepted, d.Outages.Report())
	}
}

// authors returns who sits at the seats. If someone may not publish, it has answered and ok is
// false.
func (d *server) authors(w http.ResponseWriter, r *http.Request, seats []string) (list []outage.Author, ok bool) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	for _, seat := range seats {
		if !checkSeat(w, seat) {
			return nil, false
		}
		id, ok := d.identify(ctx, w, d.atSeat(r, seat))
		if !ok {
			return nil, false
		}
		list = append(list, outage.Author{Organization: id.Organization, User: id.UserID})
	}
	return list, true
}

// outage tells how the outage is going, or how the latest one went.
func (d *server) outage(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, d.Outages.Report())
}
