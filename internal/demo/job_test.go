package demo_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"orgcast/internal/demo"
	"orgcast/internal/demo/jobs"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/task"
)

// work stands in for workers: it remembers what was dispatched and kept, and for whom.
type work struct {
	tasks    []task.Task
	pictures []string // ORG/NAME
	kept     map[string][]byte
	err      error
}

func (w *work) Dispatch(ctx context.Context, t task.Task) (string, error) {
	if org, ok := orgctx.From(ctx); !ok || org != t.Organization() {
		return "", task.ErrForeign
	}
	w.tasks = append(w.tasks, t)
	return t.ID, w.err
}

func (w *work) KeepPicture(ctx context.Context, name string, data []byte) error {
	org, ok := orgctx.From(ctx)
	if !ok {
		return orgctx.ErrNoOrganization
	}
	if w.kept == nil {
		w.kept = make(map[string][]byte)
	}
	w.kept[org.String()+"/"+name] = data
	w.pictures = append(w.pictures, org.String()+"/"+name)
	return w.err
}

func (w *work) Picture(ctx context.Context, name string) ([]byte, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return nil, orgctx.ErrNoOrganization
	}
	data, ok := w.kept[org.String()+"/"+name]
	if !ok {
		return nil, cmp.Or(w.err, jobs.ErrNoPicture)
	}
	return data, w.err
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

// newWorkshop is a town with people at two seats, and what they set going.
func newWorkshop(t *testing.T) (h http.Handler, w *work, ada, grace *http.Cookie, town *town) {
	t.Helper()
	town, w = newTown(), new(work)
	o := town.options()
	o.Dispatcher, o.Pictures = w, w
	h, err := demo.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h, w, signIn(t, h, "ada", "left"), signIn(t, h, "grace", "right"), town
}

func TestStartJob(t *testing.T) {
	h, w, ada, grace, _ := newWorkshop(t)
	tests := map[string]struct{ kind, body, path, payload string }{
		"audit":    {"seo_audit", `{"seat":"SEAT","url":"/","max_pages":5}`, "/ws/seo_audit/", `"max_pages":5`},
		"crawl":    {"crawl", `{"seat":"SEAT"}`, "/ws/crawl/", `"url":"http://127.0.0.1:8080/"`},
		"metatags": {"metatags", `{"seat":"SEAT"}`, "/ws/meta-tags/task/", `"task_id"`},
		"research": {"research", `{"seat":"SEAT","query":"sessions"}`, "/ws/research/", `"query":"sessions"`},
		"crew":     {"crew", `{"seat":"SEAT","crew_id":"7"}`, "/ws/crew_execution/", `"crew_id":"7"`},
		"pictures": {"optimization", `{"seat":"SEAT"}`, "/ws/image-optimizer/", `"images":[]`},
	}
	for name, test := range tests {
		for seat, person := range map[string]struct {
			cookie    *http.Cookie
			org, user string
		}{"left": {ada, "acme", "ada"}, "right": {grace, "globex", "grace"}} {
			body := strings.Replace(test.body, "SEAT", seat, 1)
			resp := do(h, postJSON("/demo/jobs/"+test.kind, body, person.cookie))
			var started jobs.Started
			if err := json.NewDecoder(resp.Body).Decode(&started); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: got status %d, %v", name, resp.StatusCode, err)
			}
			got := w.tasks[len(w.tasks)-1]
			if got.Organization().String() != person.org || got.UserID != person.user || got.Kind != test.kind || got.ID != started.ID {
				t.Errorf("%s of %s: got %+v, want one of %s with the id %s", name, person.user, got, person.org, started.ID)
			}
			if started.Path != test.path+started.ID+"/" || got.Group.Name() != started.Group || !strings.Contains(string(got.Payload), test.payload) {
				t.Errorf("%s: got %+v and %s, want a path below %s, the task's group and %s", name, started, got.Payload, test.path, test.payload)
			}
		}
	}
}

// TestSameIDOnBothSides: two organizations can have work of the same id, which is two things.
func TestSameIDOnBothSides(t *testing.T) {
	h, w, ada, grace, _ := newWorkshop(t)
	for seat, person := range map[string]struct {
		cookie *http.Cookie
		org    string
	}{"left": {ada, "acme"}, "right": {grace, "globex"}} {
		for kind, id := range map[string]string{"crawl": "4711", "research": "4711", "crew": "Run-1", "metatags": "T_1"} {
			body := fmt.Sprintf(`{"seat":%q,"query":"x","crew_id":"writers","id":%q}`, seat, id)
			resp := do(h, postJSON("/demo/jobs/"+kind, body, person.cookie))
			var started jobs.Started
			if err := json.NewDecoder(resp.Body).Decode(&started); err != nil || started.ID != id {
				t.Fatalf("%s: got %+v, %v, want the id %s", kind, started, err, id)
			}
			if got := w.tasks[len(w.tasks)-1]; got.ID != id || got.Organization().String() != person.org {
				t.Errorf("%s: got %s of %s, want %s of %s", kind, got.ID, got.Organization(), id, person.org)
			}
		}
	}
}

func TestStartJobWithPictures(t *testing.T) {
	h, w, ada, _, _ := newWorkshop(t)
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
		t.Fatal(err)
	}
	picture := base64.StdEncoding.EncodeToString(b.Bytes())
	resp := do(h, postJSON("/demo/jobs/optimization", `{"seat":"left","pictures":["`+picture+`","`+picture+`"]}`, ada))
	if resp.StatusCode != http.StatusOK || len(w.pictures) != 2 || w.pictures[0] == w.pictures[1] || !strings.HasPrefix(w.pictures[0], "acme/") {
		t.Fatalf("got status %d and %v, want two pictures of acme", resp.StatusCode, w.pictures)
	}
	if name := strings.TrimPrefix(w.pictures[1], "acme/"); !strings.Contains(string(w.tasks[0].Payload), name) {
		t.Errorf("payload: got %s, want the name %s", w.tasks[0].Payload, name)
	}
	w.pictures, w.tasks = nil, nil
	many := strings.TrimSuffix(strings.Repeat(`"`+picture+`",`, 5), ",")
	large := `"` + base64.StdEncoding.EncodeToString(append(b.Bytes(), make([]byte, jobs.MaxPicture)...)) + `"`
	for name, test := range map[string]struct {
		pictures string
		status   int
		code     string
	}{
		"no picture":    {`"aGVsbG8="`, http.StatusBadRequest, "bad_picture"},
		"one of two":    {`"` + picture + `","aGVsbG8="`, http.StatusBadRequest, "bad_picture"},
		"not base64":    {`"###"`, http.StatusBadRequest, "bad_request"},
		"five":          {many, http.StatusBadRequest, "bad_request"},
		"large":         {large, http.StatusBadRequest, "bad_picture"},
		"all too large": {large + "," + large + "," + large + "," + large + "," + large, http.StatusRequestEntityTooLarge, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, do(h, postJSON("/demo/jobs/optimization", `{"seat":"left","pictures":[`+test.pictures+`]}`, ada)), test.status, test.code)
			if len(w.pictures)+len(w.tasks) != 0 {
				t.Errorf("kept %v, dispatched %v, want nothing", w.pictures, w.tasks)
			}
		})
	}
}

// A picture is shown to its own organization, and to nobody as anything but a picture.
func TestPicture(t *testing.T) {
	h, w, ada, grace, _ := newWorkshop(t)
	sam := signIn(t, h, "sam", "sam")
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
		t.Fatal(err)
	}
	w.kept = map[string][]byte{"acme/mine": b.Bytes(), "acme/page": []byte("<script>alert(1)</script>")}
	get := func(path string, cookies ...*http.Cookie) *http.Request {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		return r
	}
	resp := do(h, get("/demo/pictures/mine?seat=left", ada, grace))
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, b.Bytes()) {
		t.Errorf("got status %d, %d bytes, %v, want the picture", resp.StatusCode, len(body), err)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Content-Security-Policy": "default-src 'none'; sandbox", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for name, test := range map[string]struct {
		request *http.Request
		status  int
		code    string
	}{
		"another organization's": {get("/demo/pictures/mine?seat=right", ada, grace), http.StatusNotFound, "not_found"},
		"unknown":                {get("/demo/pictures/none?seat=left", ada), http.StatusNotFound, "not_found"},
		"no picture":             {get("/demo/pictures/page?seat=left", ada), http.StatusNotFound, "not_found"},
		"nobody":                 {get("/demo/pictures/mine"), http.StatusUnauthorized, "not_signed_in"},
		"another seat":           {get("/demo/pictures/mine?seat=left", grace), http.StatusUnauthorized, "not_signed_in"},
		"suspended":              {get("/demo/pictures/mine?seat=sam", sam), http.StatusForbidden, "not_a_member"},
		"bad seat":               {get("/demo/pictures/mine?seat=LEFT", ada), http.StatusBadRequest, "bad_request"},
	} {
		t.Run(name, func(t *testing.T) { checkRefusal(t, do(h, test.request), test.status, test.code) })
	}
	w.err = errors.New("secret reason")
	checkRefusal(t, do(h, get("/demo/pictures/mine?seat=left", ada)), http.StatusServiceUnavailable, "unavailable")
}

func TestStartJobRefuses(t *testing.T) {
	h, w, ada, _, town := newWorkshop(t)
	sam, olga := signIn(t, h, "sam", "sam"), signIn(t, h, "olga", "olga")
	town.mu.Lock()
	town.sessions["session-of-olga"] = session.Identity{UserID: "olga"}
	town.mu.Unlock()
	request := func(path, body string, cookies ...*http.Cookie) *http.Request {
		return postJSON(path, body, cookies...)
	}
	form := httptest.NewRequest(http.MethodPost, "/demo/jobs/crawl", strings.NewReader("seat=left"))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	form.AddCookie(ada)
	foreign := request("/demo/jobs/crawl", `{"seat":"left"}`, ada)
	foreign.Header.Set("Origin", "http://127.0.0.1:9999")
	foreign.Header.Set("Sec-Fetch-Site", "same-site")
	for name, test := range map[string]struct {
		request *http.Request
		status  int
		code    string
	}{
		"nobody":             {request("/demo/jobs/crawl", `{}`), http.StatusUnauthorized, "not_signed_in"},
		"another seat":       {request("/demo/jobs/crawl", `{"seat":"right"}`, ada), http.StatusUnauthorized, "not_signed_in"},
		"suspended":          {request("/demo/jobs/crawl", `{"seat":"sam"}`, sam), http.StatusForbidden, "not_a_member"},
		"no organization":    {request("/demo/jobs/crawl", `{"seat":"olga"}`, olga), http.StatusForbidden, "no_organization"},
		"another origin":     {foreign, http.StatusForbidden, "foreign_origin"},
		"a form":             {form, http.StatusUnsupportedMediaType, "bad_request"},
		"no such kind":       {request("/demo/jobs/mine", `{"seat":"left"}`, ada), http.StatusNotFound, "unknown_kind"},
		"chat":               {request("/demo/jobs/chat", `{"seat":"left"}`, ada), http.StatusNotFound, "unknown_kind"},
		"own organization":   {request("/demo/jobs/crawl", `{"seat":"left","organization_id":"globex"}`, ada), http.StatusBadRequest, "bad_request"},
		"id of another form": {request("/demo/jobs/crawl", `{"seat":"left","id":"a/b"}`, ada), http.StatusBadRequest, "bad_request"},
		"id, not a number":   {request("/demo/jobs/research", `{"seat":"left","query":"x","id":"seven"}`, ada), http.StatusBadRequest, "bad_request"},
		"id with a zero":     {request("/demo/jobs/seo_audit", `{"seat":"left","id":"07"}`, ada), http.StatusBadRequest, "bad_request"},
		"foreign chat":       {request("/demo/jobs/crew", `{"seat":"left","crew_id":"1","session_id":"x"}`, ada), http.StatusBadRequest, "bad_request"},
		"foreign url":        {request("/demo/jobs/crawl", `{"seat":"left","url":"http://example.org/"}`, ada), http.StatusBadRequest, "bad_request"},
		"no query":           {request("/demo/jobs/research", `{"seat":"left"}`, ada), http.StatusBadRequest, "bad_request"},
		"bad seat":           {request("/demo/jobs/crawl", `{"seat":"LEFT"}`, ada), http.StatusBadRequest, "bad_request"},
		"two values":         {request("/demo/jobs/crawl", `{"seat":"left"}{}`, ada), http.StatusBadRequest, "bad_request"},
		"large":              {request("/demo/jobs/research", `{"query":"`+strings.Repeat("x", 9<<10)+`"}`, ada), http.StatusRequestEntityTooLarge, "too_large"},
		"pictures elsewhere": {request("/demo/jobs/crawl", `{"seat":"left","pictures":[]}`, ada), http.StatusBadRequest, "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, do(h, test.request), test.status, test.code)
			if len(w.tasks) != 0 {
				t.Errorf("dispatched: got %v, want nothing", w.tasks)
			}
		})
	}
	for name, test := range map[string]struct {
		err  error
		code string
	}{"backlog": {task.ErrBacklog, "too_many_tasks"}, "redis away": {errors.New("secret reason"), "unavailable"}} {
		t.Run(name, func(t *testing.T) {
			w.err = test.err
			resp := do(h, request("/demo/jobs/crawl", `{"seat":"left"}`, ada))
			if resp.Header.Get("Retry-After") == "" {
				t.Error("got no Retry-After")
			}
			checkRefusal(t, resp, http.StatusServiceUnavailable, test.code)
		})
	}
}
