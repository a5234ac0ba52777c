package jobs

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

var (
	// ErrUnknownKind is returned for a kind of work that cannot be requested in this way.
	ErrUnknownKind = errors.New("jobs: no such kind of work")
	// ErrRequest is returned, wrapped, for a request that lacks something or asks for too much. Its
	// text may be shown to users.
	ErrRequest = errors.New("jobs: bad request")
)

// Request is a request for work. The kind decides which fields count.
type Request struct {
	URL      string // the first page, on the demo's own site; empty: its home page
	MaxPages int    // 0 means the default
	Query    string // of a research
	CrewID   string // of a crew
	Pictures []string
	// ID names the work, so that two organizations can have the same id. Some kinds need a number.
	// If it is empty, an id is created.
	ID string
}

// Started describes started work for its pages.
type Started struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	// Path is the WebSocket on which to follow the work, and Group is the group of its events.
	Path  string `json:"path"`
	Group string `json:"group"`
	// JobID is the second name of an optimization.
	JobID string `json:"job_id,omitempty"`
}

// New returns the task for a user's request.
func New(site *url.URL, kind string, org orgctx.ID, user string, r Request) (task.Task, Started, error) {
	number, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000))
	if err != nil {
		return task.Task{}, Started{}, err
	}
	started := Started{Kind: kind, ID: strconv.FormatInt(number.Int64()+1, 10)}
	if kind == KindMetaTags || kind == KindCrew {
		started.ID = rand.Text()
	}
	if r.ID != "" {
		if !validWorkID(kind, r.ID) {
			return task.Task{}, Started{}, fmt.Errorf("%w: id: is not valid for this kind of work", ErrRequest)
		}
		started.ID = r.ID
	}
	first, err := resolve(site, r.URL)
	if err != nil {
		return task.Task{}, Started{}, fmt.Errorf("%w: url: must be on this server, such as /", ErrRequest)
	}
	if r.MaxPages < 0 || r.MaxPages > maxPages {
		return task.Task{}, Started{}, fmt.Errorf("%w: at most %d pages", ErrRequest, maxPages)
	}
	var content map[string]any
	switch kind {
	case KindAudit:
		started.Group, started.Path = "audit_"+started.ID, "/ws/seo_audit/"+started.ID+"/"
		content = map[string]any{"audit_id": started.ID, "url": first.String(), "max_pages": r.MaxPages}
	case KindCrawl:
		started.Group, started.Path = "crawl_"+started.ID, "/ws/crawl/"+started.ID+"/"
		content = map[string]any{"crawl_id": started.ID, "url": first.String(), "max_pages": r.MaxPages}
	case KindMetaTags:
		started.Group, started.Path = "metatags_task_"+started.ID, "/ws/meta-tags/task/"+started.ID+"/"
		content = map[string]any{"task_id": started.ID, "url": first.String()}
	case KindOptimization:
		if len(r.Pictures) > MaxPictures {
			return task.Task{}, Started{}, fmt.Errorf("%w: at most %d pictures", ErrRequest, MaxPictures)
		}
		started.JobID = rand.Text()
		started.Group, started.Path = "optimization_"+started.ID, "/ws/image-optimizer/"+started.ID+"/"
		content = map[string]any{"optimization_id": started.ID, "job_id": started.JobID, "images": append([]string{}, r.Pictures...)}
	case KindResearch:
		if r.Query == "" || len(r.Query) > maxQuery || !utf8.ValidString(r.Query) {
			return task.Task{}, Started{}, fmt.Errorf("%w: query: must be 1 to %d bytes of text", ErrRequest, maxQuery)
		}
		started.Group, started.Path = "research_"+started.ID, "/ws/research/"+started.ID+"/"
		content = map[string]any{"research_id": started.ID, "query": r.Query}
	case KindCrew:
		if !orgctx.ValidID(r.CrewID) {
			return task.Task{}, Started{}, fmt.Errorf("%w: crew_id: must be 1 to 64 of A-Z a-z 0-9 _ -", ErrRequest)
		}
		started.Group, started.Path = "crew_execution_"+started.ID, "/ws/crew_execution/"+started.ID+"/"
		content = map[string]any{"crew_id": r.CrewID, "execution_id": started.ID}
	default: // chats and cancellations begin on a socket, which knows their owner
		return task.Task{}, Started{}, ErrUnknownKind
	}
	group, err := event.NewGroup(org, started.Group)
	if err != nil {
		return task.Task{}, Started{}, err
	}
	payload, err := json.Marshal(content)
	if err != nil {
		return task.Task{}, Started{}, err
	}
	return task.Task{Kind: kind, ID: started.ID, Group: group, UserID: user, Payload: payload}, started, nil
}

// validWorkID reports whether work of the kind can have the id.
func validWorkID(kind, id string) bool {
	switch kind {
	case KindAudit, KindOptimization, KindResearch:
		n, err := strconv.ParseInt(id, 10, 32)
		return err == nil && n > 0 && strconv.FormatInt(n, 10) == id
	default:
		return orgctx.ValidID(id)
	}
}
