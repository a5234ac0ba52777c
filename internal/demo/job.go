package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/task"
)

const (
	codeUnknownKind  = "unknown_kind"
	codeTooManyTasks = "too_many_tasks"
	codeBadPicture   = "bad_picture"
)

// maxUpload bounds a request with pictures, whose size base64 increases by a third.
const maxUpload = jobs.MaxPictures*(jobs.MaxPicture+jobs.MaxPicture/3) + maxBody

// jobRequest requests a job. The kind decides which fields count. It has no field for an
// organization or a user, because the session names them.
type jobRequest struct {
	fromSeat

	URL      string `json:"url"`
	MaxPages int    `json:"max_pages"`
	Query    string `json:"query"`
	CrewID   string `json:"crew_id"`
	// ID is the id of the job, so that two organizations can have the same one. If it is empty, one
	// is created.
	ID string `json:"id"`
}

// startJob starts a job of the kind in the path.
func (d *server) startJob(w http.ResponseWriter, r *http.Request) {
	var req jobRequest
	id, ok := d.readJob(w, r, &req)
	if !ok {
		return
	}
	d.dispatch(w, r, id, r.PathValue("kind"), jobs.Request{
		URL: req.URL, MaxPages: req.MaxPages, Query: req.Query, CrewID: req.CrewID, ID: req.ID,
	})
}

// optimizationRequest requests an optimization of the given pictures, or of built-in ones if there
// are none.
type optimizationRequest struct {
	fromSeat

	Pictures [][]byte `json:"pictures"` // base64
	ID       string   `json:"id"`       // as in jobRequest
}

// startOptimization keeps the pictures and starts the job.
func (d *server) startOptimization(w http.ResponseWriter, r *http.Request) {
	var req optimizationRequest
	id, ok := d.readJob(w, r, &req)
	if !ok {
		return
	}
	if len(req.Pictures) > jobs.MaxPictures {
		refuse(w, http.StatusBadRequest, codeBadRequest, "at most four pictures")
		return
	}
	for _, data := range req.Pictures { // check all before the first one is stored
		if _, ok := jobs.CheckPicture(data); !ok {
			refuse(w, http.StatusBadRequest, codeBadPicture, "a picture is a JPEG or PNG of up to 256 KiB and 4 million pixels")
			return
		}
	}
	ctx, cancel := context.WithTimeout(asIdentity(r.Context(), id), answerTimeout)
	defer cancel()
	names := make([]string, len(req.Pictures))
	for i, data := range req.Pictures {
		names[i] = rand.Text()
		if err := d.Pictures.KeepPicture(ctx, names[i], data); err != nil {
			d.unavailable(w, "keep a picture", err)
			return
		}
	}
	d.dispatch(w, r, id, jobs.KindOptimization, jobs.Request{Pictures: names, ID: req.ID})
}

// picture serves a picture of the organization of someone at a seat. A picture of another
// organization looks like one that does not exist.
func (d *server) picture(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	id, ok := d.identifyByQuery(ctx, w, r)
	if !ok {
		return
	}
	data, err := d.Pictures.Picture(asIdentity(ctx, id), r.PathValue("name"))
	if err != nil && !errors.Is(err, jobs.ErrNoPicture) {
		d.unavailable(w, "get a picture", err)
		return
	}
	mediaType, ok := jobs.CheckPicture(data)
	if !ok {
		refuse(w, http.StatusNotFound, codeNotFound, "there is no such picture")
		return
	}
	// It is an upload, so it is served only as a picture, and only to pages of this origin.
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(data) // the client may have disconnected
}

// asIdentity returns a context of the identity's organization and user.
func asIdentity(ctx context.Context, id session.Identity) context.Context {
	return orgctx.WithUser(orgctx.With(ctx, id.Organization), orgctx.User(id.UserID))
}

// readJob parses a request for a job and returns who sent it. If it is not allowed, readJob has
// answered and ok is false.
func (d *server) readJob(w http.ResponseWriter, r *http.Request, req interface{ seat() string }) (id session.Identity, ok bool) {
	if !readRequest(w, r, req) {
		return session.Identity{}, false
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	return d.identify(ctx, w, d.atSeat(r, req.seat()))
}

// dispatch starts a job for someone, in the organization of the session, and answers where to
// follow it.
func (d *server) dispatch(w http.ResponseWriter, r *http.Request, id session.Identity, kind string, req jobs.Request) {
	job, started, err := jobs.New(d.Site, kind, id.Organization, id.UserID, req)
	switch {
	case errors.Is(err, jobs.ErrUnknownKind):
		refuse(w, http.StatusNotFound, codeUnknownKind, "there is no such job to start here")
		return
	case errors.Is(err, jobs.ErrRequest):
		refuse(w, http.StatusBadRequest, codeBadRequest, strings.TrimPrefix(err.Error(), jobs.ErrRequest.Error()+": "))
		return
	case err != nil:
		d.fail(w, "make a job", err)
		return
	}
	ctx, cancel := context.WithTimeout(asIdentity(r.Context(), id), answerTimeout)
	defer cancel()
	switch _, err := d.Dispatcher.Dispatch(ctx, job); {
	case errors.Is(err, task.ErrBacklog):
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, codeTooManyTasks, "too many jobs are waiting; try again in a moment")
		return
	case err != nil:
		d.unavailable(w, "dispatch a job", err)
		return
	}
	answer(w, http.StatusOK, started)
}
