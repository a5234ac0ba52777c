// Package demo is a demonstration of Orgcast: an embedded Redis, two organizations with their
// people, and one page on which two of them sit side by side and publish to each other, or fail to.
//
// The page takes no shortcuts. Everyone on it has a real session cookie of the store that the
// gateway reads, and its sockets go through the gateway's own handler. Only signing in is simpler:
// it asks for no password, so the demo must never run for real organizations.
package demo

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/demo/crowd"
	"orgcast/internal/demo/jobs"
	"orgcast/internal/demo/outage"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/task"
	"orgcast/web"
)

// Publisher sends an event to everyone who listens to the group.
type Publisher interface {
	// Publish returns when Redis has accepted the event, or with an error.
	Publish(ctx context.Context, g event.Group, payload []byte) error
}

// Minter makes sessions in the store that the gateway reads; *session.RedisStore is one.
type Minter interface {
	// Mint stores a session and returns its cookie.
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

// Membership tells whether a user may act for an organization, by the same rule as the gateway.
// Package directory implements it.
type Membership interface {
	// Admit returns the user's membership in the organization. [directory.ErrUnavailable] means
	// that the answer is unknown. Any other error is a refusal.
	Admit(ctx context.Context, org orgctx.ID, user string) (directory.Member, error)
}

var (
	_ Minter     = (*session.RedisStore)(nil)
	_ Membership = (*directory.Redis)(nil)
	_ Crowd      = (*crowd.Crowd)(nil)
	_ Outages    = (*outage.Outages)(nil)
)

// Status is what the page shows about the node.
type Status struct {
	// Violations counts events that were stopped at the last step because they belonged to
	// another organization. It stays 0 unless there is a fault.
	Violations uint64 `json:"violations"`
	// Connections is the number of open sockets.
	Connections int `json:"connections"`
}

// Dispatcher dispatches tasks to the demo's workers; *task.Dispatcher is one.
type Dispatcher interface {
	// Dispatch returns the id of the task. [task.ErrBacklog] means that too many tasks are waiting.
	Dispatch(ctx context.Context, t task.Task) (id string, err error)
}

// Pictures stores uploaded pictures, separately for each organization.
type Pictures interface {
	// KeepPicture stores a picture under a name, for the organization of ctx and for a while.
	KeepPicture(ctx context.Context, name string, data []byte) error
	// Picture returns the picture stored under a name for the organization of ctx, as
	// [jobs.Picture] does.
	Picture(ctx context.Context, name string) ([]byte, error)
}

// Crowd brings many people of many organizations; *crowd.Crowd is one.
type Crowd interface {
	// Start begins a run of this size and returns at once, or returns why there is none.
	Start(s crowd.Size) error
	// Report returns how the run is going, or how the latest one ended.
	Report() crowd.Report
}

// Outages takes Redis away; *outage.Outages does.
type Outages interface {
	// Start takes Redis away for some seconds and returns at once, or returns why it does not.
	// Meanwhile the demo publishes as the authors.
	Start(authors []outage.Author, seconds int) error
	// Report returns how the outage is going, or how the latest one went.
	Report() outage.Report
}

// Options are the parts that [Handler] joins. All are required unless the comment says otherwise.
type Options struct {
	// Gateway serves the WebSocket routes below /ws/.
	Gateway http.Handler
	// CookieName is the name of the session cookie that Gateway and Sessions read.
	CookieName string
	// Minter signs people in.
	Minter Minter
	// Sessions resolves the cookie of someone who publishes.
	Sessions session.Resolver
	// Membership is asked before someone publishes.
	Membership Membership
	// Publisher carries events to the gateway, through Redis.
	Publisher Publisher
	// Dispatcher starts the jobs that people request.
	Dispatcher Dispatcher
	// Pictures keeps the pictures that jobs work on.
	Pictures Pictures
	// Site is the origin of the demo. Jobs fetch its pages.
	Site *url.URL
	// Authority lets people sign out, switch, be removed and be suspended. Optional; without it,
	// they cannot.
	Authority *Authority
	// Crowd is optional; without it, no crowd can come.
	Crowd Crowd
	// Outages is optional; without it, Redis stays where it is.
	Outages Outages
	// Status is called whenever the page requests the status.
	Status func() Status
	// Pages are the files of the page. Optional; the default is the embedded page.
	Pages fs.FS
	// Log is optional.
	Log *zap.Logger
}

// ErrOptions is returned by [Handler] if a required part is missing.
var ErrOptions = errors.New("demo: an option is missing")

// answerTimeout bounds each wait for Redis, so that a page soon learns that Redis is down.
const answerTimeout = 3 * time.Second

// Handler returns the demo: the page at /, its own endpoints below /demo/, the gateway below /ws/
// and /sse/ and, for several people in one browser, also below /seat/SEAT/.
func Handler(o Options) (http.Handler, error) {
	if o.Gateway == nil || o.CookieName == "" || o.Minter == nil || o.Sessions == nil ||
		o.Membership == nil || o.Publisher == nil || o.Status == nil ||
		o.Dispatcher == nil || o.Pictures == nil || o.Site == nil {
		return nil, ErrOptions
	}
	if o.Pages == nil {
		o.Pages = web.Demo()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	d := &server{Options: o}

	mux := http.NewServeMux()
	mux.Handle("/ws/", o.Gateway)
	mux.Handle("/sse/", o.Gateway)
	mux.HandleFunc("/seat/{seat}/ws/", d.serveSeat)
	mux.HandleFunc("/seat/{seat}/sse/", d.serveSeat)
	mux.Handle("POST /demo/sign-in", d.guard(d.signIn))
	mux.Handle("POST /demo/jobs/{kind}", d.guard(d.startJob))
	mux.Handle("POST /demo/jobs/"+jobs.KindOptimization, d.guardUpTo(maxUpload, d.startOptimization))
	mux.Handle("POST /demo/publish", d.guard(d.publish))
	mux.Handle("GET /demo/who", d.guard(d.who))
	mux.Handle("GET /demo/pictures/{name}", d.guard(d.picture))
	mux.Handle("GET /demo/people", d.guard(d.people))
	mux.Handle("GET /demo/status", d.guard(d.status))
	if o.Authority != nil {
		mux.Handle("POST /demo/sign-out", d.guard(d.change(d.signOut)))
		mux.Handle("POST /demo/switch", d.guard(d.change(d.switchOrganization)))
		mux.Handle("POST /demo/member", d.guard(d.change(d.changeMember)))
		mux.Handle("POST /demo/organization", d.guard(d.change(d.changeOrganization)))
		mux.Handle("POST /demo/reset", d.guard(d.reset))
	}
	if o.Crowd != nil {
		mux.Handle("POST /demo/crowd", d.guard(d.startCrowd))
		mux.Handle("GET /demo/crowd", d.guard(d.crowd))
	}
	if o.Outages != nil {
		mux.Handle("POST /demo/outage", d.guard(d.startOutage))
		mux.Handle("GET /demo/outage", d.guard(d.outage))
	}
	mux.Handle("/demo/", d.guard(d.notFound))
	mux.Handle("/", d.page())
	return mux, nil
}
