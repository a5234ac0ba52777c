package api

import (
	"net/http"
	"reflect"
	"strconv"

	"orgcast/internal/inventory"
)

// Messages returns the sentence of every problem, by path and code.
func Messages() map[string]string {
	list := map[string]string{notFound.code: notFound.message, wrongMethod.code: wrongMethod.message}
	for _, c := range []call{publishing(nil), revoking(nil), reloading(nil), retryingWebhooks(nil)} {
		for _, p := range append(doors(c.access), c.problems...) {
			list[c.path+" "+p.code+" "+http.StatusText(p.status)] = p.message
		}
	}
	for _, v := range append(views(Options{OrganizationMetrics: 1}), countingTasks(nil), readingHistory(nil), showingPresence(nil), showingWebhooks(nil)) {
		for _, p := range append(doors(v.access()), v.problems()...) {
			list[v.path+" "+p.code] = p.message
		}
	}
	return list
}

// HistoryRate returns how many bytes of events per second GET /v1/history reads.
func HistoryRate() int { return int(newHistoryTurns().rate) }

// OpensAdmin returns the code with which the gate refuses what needs the admin key, "" if it does
// not.
func OpensAdmin(admin *Key, local bool, r *http.Request) (code string) {
	g := &gate{publish: NewKey("publish-key"), admin: admin, local: local}
	if err := g.check(r, byAdmin); err != nil {
		return call{access: byAdmin}.problemOf(err).code
	}
	return ""
}

// Codes returns the codes of a call with their statuses: code → status → true.
func Codes(path string) map[string]map[int]bool {
	codes := make(map[string]map[int]bool)
	for _, c := range []call{publishing(nil), revoking(nil), reloading(nil), retryingWebhooks(nil)} {
		if c.path != path {
			continue
		}
		for _, p := range append(doors(c.access), c.problems...) {
			if codes[p.code] == nil {
				codes[p.code] = make(map[int]bool)
			}
			codes[p.code][p.status] = true
		}
	}
	return codes
}

// Path is a path as the package knows it.
type Path struct {
	Operation  string // such as GET /v1/nodes
	Parameters []string
	// Codes are by status: the path's own, and those of all views.
	Codes, Shared map[string][]string
}

// Paths returns all paths that there can be.
func Paths(o *Options) (list []Path) {
	calls, shown := o.paths()
	for _, c := range calls {
		list = append(list, Path{Operation: "POST " + c.path, Codes: byStatus(append(doors(c.access), c.problems...))})
	}
	for _, v := range shown {
		own := byStatus(append(doors(v.access()), v.refusals...))
		list = append(list, Path{"GET " + v.path, v.parameters, own, byStatus(v.problems())})
	}
	return list
}

func byStatus(problems []problem) map[string][]string {
	codes := make(map[string][]string)
	for _, p := range problems {
		status := strconv.Itoa(p.status)
		codes[status] = append(codes[status], p.code)
	}
	return codes
}

// Types are the types of requests and answers that the package makes itself.
func Types() map[string]reflect.Type {
	return map[string]reflect.Type{
		"result": reflect.TypeFor[result](), "publication": reflect.TypeFor[publication](), "nodeState": reflect.TypeFor[nodeState](),
		"webhooksPage": reflect.TypeFor[webhooksPage](),
		"nodeLoad": reflect.TypeFor[struct {
			nodeState
			inventory.Load
		}](),
	}
}
