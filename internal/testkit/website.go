package testkit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Website is a web application that tells a gateway whose session cookies are, as docs/protocol.md
// says. It answers from a table. The zero Website expects an empty key and knows no cookies.
type Website struct {
	mu   sync.Mutex
	key  string
	says map[string]string // answers by cookie
	away bool
}

var _ http.Handler = (*Website)(nil)

// NewWebsite returns a Website that expects a key.
func NewWebsite(key string) *Website {
	return &Website{key: key, says: make(map[string]string)}
}

// Says sets the answer for a cookie, in JSON. An empty answer makes the cookie unknown.
func (w *Website) Says(cookie, answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.says[cookie] = answer
}

// SetAway sets whether it answers 503 to everything.
func (w *Website) SetAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

// SetKey changes the expected key.
func (w *Website) SetKey(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.key = key
}

// IdentityAnswer returns the answer for a cookie whose user is logged in. org may be empty.
func IdentityAnswer(user, org, role string, expires time.Time) string {
	fields := map[string]any{"user_id": user, "role": role, "expires_at": expires.Unix()}
	if org != "" {
		fields["active_organization_id"] = org
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // every value in it has a JSON form
	}
	return string(text)
}

// ServeHTTP implements [http.Handler].
func (w *Website) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.away:
		http.Error(out, "deploying", http.StatusServiceUnavailable)
		return
	case r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer "+w.key:
		http.Error(out, "who are you?", http.StatusUnauthorized)
		return
	}
	var question struct {
		Version int      `json:"v"`
		Cookies []string `json:"cookies"`
	}
	if err := json.NewDecoder(r.Body).Decode(&question); err != nil || question.Version != 1 {
		http.Error(out, "bad question", http.StatusBadRequest)
		return
	}
	answers := make([]string, len(question.Cookies))
	for i, cookie := range question.Cookies {
		if answers[i] = w.says[cookie]; answers[i] == "" {
			answers[i] = `{"code":"none"}`
		}
	}
	_, _ = fmt.Fprintf(out, `{"identities":[%s]}`, strings.Join(answers, ","))
}
