// Package orgcast publishes to Orgcast from a Go program, with the standard library only: copy this
// file, or import the package from a checkout.
package orgcast

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// attempts is how often Record and Revoke are tried. Repeating them does no harm.
	attempts  = 3
	maxAnswer = 64 << 10
)

// Error is a call that was refused or failed.
type Error struct {
	Call string
	// Status is the HTTP status, 0 without an answer.
	Status int
	// Code is one of the codes of docs/protocol.md, "unreachable" if no answer came, or "bad_answer"
	// if the answer is not Orgcast's.
	Code string
	// Err says why no answer came.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("orgcast %s: %s (status %d)", e.Call, e.Code, e.Status)
}

// Unwrap returns why no answer came, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Client publishes and revokes. It may be used by several goroutines.
type Client struct {
	url, key string
	http     *http.Client
}

// New returns a client. url is the gateway's private listener, key its --publish-key, timeout the
// longest time for each attempt; 0 means 5 s.
func New(url, key string, timeout time.Duration) (*Client, error) {
	if key == "" {
		return nil, errors.New("orgcast: the key is empty")
	}
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	return &Client{strings.TrimRight(url, "/"), key, &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 8}, // no proxy from the environment
		// The key must not travel to another address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Receipt says what became of an event.
type Receipt struct {
	// ID is the event's position in the history of its group, if it was recorded.
	ID string `json:"id"`
	// Nodes is how many nodes of the gateway heard the event.
	Nodes int `json:"nodes"`
	// Repeated says that the idempotency key had been used before and nothing was published.
	Repeated bool `json:"repeated"`
}

// Revocation ends the right to be connected: {Type: "user.disabled", UserID: "ada"}.
type Revocation struct {
	Type           string `json:"type"`
	SessionID      string `json:"session_id,omitempty"`
	OrganizationID string `json:"organization_id,omitempty"`
	UserID         string `json:"user_id,omitempty"`
}

type publication struct {
	OrganizationID string `json:"organization_id"`
	Group          string `json:"group"`
	Event          any    `json:"event"`
	Record         bool   `json:"record,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// Publish sends an event, which encoding/json makes an object with a "type", to the members of a group
// who are connected now. It is tried once.
func (c *Client) Publish(ctx context.Context, organization, group string, event any) (Receipt, error) {
	r, err := c.post(ctx, "publish", publication{OrganizationID: organization, Group: group, Event: event}, 1)
	return r.Receipt, err
}

// Record is Publish, and keeps the event in the group's history. Without an idempotency key it makes one.
func (c *Client) Record(ctx context.Context, organization, group string, event any, idempotencyKey string) (Receipt, error) {
	if idempotencyKey == "" {
		idempotencyKey = rand.Text()
	}
	r, err := c.post(ctx, "publish", publication{organization, group, event, true, idempotencyKey}, attempts)
	return r.Receipt, err
}

// Revoke returns "revoked" or "announced".
func (c *Client) Revoke(ctx context.Context, r Revocation) (string, error) {
	result, err := c.post(ctx, "revoke", r, attempts)
	return result.Status, err
}

var (
	validID    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	validGroup = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)
)

// UserGroup returns the name of a user's own group.
func UserGroup(user string) string {
	if validID.MatchString(user) {
		return "user." + user
	}
	sum := sha256.Sum256([]byte(user))
	return "user.." + base64.RawURLEncoding.EncodeToString(sum[:])
}

// SignGroup returns the token with which a page may subscribe to a group until expires. key is
// --signing-key.
func SignGroup(key, organization, group string, expires time.Time) (string, error) {
	seconds := expires.Unix()
	switch {
	case len(key) < 32:
		return "", errors.New("orgcast: the signing key must have at least 32 bytes")
	case !validID.MatchString(organization):
		return "", errors.New("orgcast: invalid organization")
	case !validGroup.MatchString(group):
		return "", errors.New("orgcast: invalid group")
	case seconds < 1 || seconds >= 1e11:
		return "", errors.New("orgcast: expires is out of range")
	}
	until := strconv.FormatInt(seconds, 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("orgcast.v1.group\n" + organization + "\n" + group + "\n" + until))
	return until + "." + hex.EncodeToString(mac.Sum(nil)), nil
}

type result struct {
	Receipt
	Status string `json:"status"`
	Code   string `json:"code"`
}

func (c *Client) post(ctx context.Context, call string, body any, tries int) (result, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return result{}, fmt.Errorf("orgcast %s: %w", call, err)
	}
	for attempt := 1; ; attempt++ {
		r, err := c.try(ctx, call, text)
		failed, ok := errors.AsType[*Error](err)
		if !ok || attempt >= tries || failed.Status > 0 && failed.Status < 500 {
			return r, err
		}
		pause := time.Duration(float64(100*time.Millisecond<<attempt) * (0.5 + mathrand.Float64())) //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r, err
		}
	}
}

func (c *Client) try(ctx context.Context, call string, body []byte) (result, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/"+call, bytes.NewReader(body))
	if err != nil {
		return result{}, fmt.Errorf("orgcast %s: %w", call, err)
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return result{}, &Error{Call: call, Code: "unreachable", Err: err}
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return result{}, &Error{Call: call, Code: "unreachable", Err: err}
	}
	r := resultOf(text)
	done := r.Status == "published" || r.Status == "revoked" || r.Status == "announced"
	if response.StatusCode == http.StatusOK && done {
		return r, nil
	}
	if r.Code == "" {
		r.Code = "bad_answer"
	}
	return result{}, &Error{Call: call, Status: response.StatusCode, Code: r.Code}
}

// resultOf returns the one result of an answer, or none.
func resultOf(text []byte) (r result) {
	var list struct{ Results []result }
	if json.Unmarshal(text, &list) == nil && len(list.Results) > 0 {
		return list.Results[0]
	}
	if json.Unmarshal(text, &r) != nil {
		return result{}
	}
	return r
}
