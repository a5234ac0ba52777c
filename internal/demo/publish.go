package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// maxText bounds the text of a note, in characters.
const maxText = 500

// publishRequest requests to publish to a group. It has no field for an organization, and sending
// one is refused, because the session names the organization.
type publishRequest struct {
	fromSeat

	Group string `json:"group"`
	Text  string `json:"text"`
}

// note is the event that the demo publishes.
type note struct {
	Type         string    `json:"type"`
	Organization orgctx.ID `json:"organization_id"`
	ID           string    `json:"id"`
	From         string    `json:"from"`
	Text         string    `json:"text"`
	// SentAt is in milliseconds since 1970.
	SentAt int64 `json:"sent_at"`
}

// published tells the page the fate of its note, so that it can follow it.
type published struct {
	ID           string    `json:"id"`
	Organization orgctx.ID `json:"organization_id"`
	Group        string    `json:"group"`
	From         string    `json:"from"`
	SentAt       int64     `json:"sent_at"`
}

// publish sends a note to a group of the signed-in person's organization.
func (d *server) publish(w http.ResponseWriter, r *http.Request) {
	var req publishRequest
	if !readRequest(w, r, &req) {
		return
	}
	if n := utf8.RuneCountInString(req.Text); strings.TrimSpace(req.Text) == "" || n > maxText {
		refuse(w, http.StatusBadRequest, codeBadRequest, "a message must have 1 to 500 characters and must not be blank")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	id, ok := d.identify(ctx, w, d.atSeat(r, req.Seat))
	if !ok {
		return
	}
	if !mayPublish(id.UserID, req.Group) {
		refuse(w, http.StatusForbidden, codeUnknownGroup, "this demo publishes to all, room.1, room.2 and your own user group")
		return
	}
	g, err := event.NewGroup(id.Organization, req.Group)
	if err != nil {
		d.fail(w, "publish", err)
		return
	}
	n := note{
		Type: "note", Organization: id.Organization, ID: rand.Text(),
		From: id.UserID, Text: req.Text, SentAt: time.Now().UnixMilli(),
	}
	payload, err := json.Marshal(n)
	if err != nil {
		d.fail(w, "publish", err)
		return
	}
	if err := d.Publisher.Publish(ctx, g, payload); err != nil {
		d.unavailable(w, "publish", err)
		return
	}
	answer(w, http.StatusOK, published{
		ID: n.ID, Organization: n.Organization, Group: g.Name(), From: n.From, SentAt: n.SentAt,
	})
}

// mayPublish reports whether the demo lets the user publish to the group called name.
func mayPublish(user, name string) bool {
	switch name {
	case "all", "room.1", "room.2", event.UserGroupName(user):
		return true
	default:
		return false
	}
}
