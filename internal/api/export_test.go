package api

import "net/http"

// Messages returns the sentence of every problem, by path and code.
func Messages() map[string]string {
	list := map[string]string{notFound.code: notFound.message, wrongMethod.code: wrongMethod.message}
	for _, c := range []call{publishing(nil), revoking(nil), reloading(nil)} {
		for _, p := range append(doors(c.access), c.problems...) {
			list[c.path+" "+p.code+" "+http.StatusText(p.status)] = p.message
		}
	}
	for _, v := range append(views(Options{OrganizationMetrics: 1}), countingTasks(nil)) {
		for _, p := range append(doors(byAdmin), v.problems()...) {
			list[v.path+" "+p.code] = p.message
		}
	}
	return list
}

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
	for _, c := range []call{publishing(nil), revoking(nil), reloading(nil)} {
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
