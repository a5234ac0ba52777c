package admin_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/admin"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedPaths: docs/api has the paths of this package, and of paths outside the API no others.
func TestDescribedPaths(t *testing.T) {
	o := admin.Options{Metrics: prometheus.NewRegistry(), API: http.NotFoundHandler(), Console: http.NotFoundHandler()}
	want := []string{}
	for _, pattern := range o.Patterns() {
		switch pattern {
		case "/v1/", "/metrics/": // package api
		case "/console/":
			want = append(want, "GET "+pattern)
		default:
			want = append(want, strings.TrimSuffix(pattern, "{$}"))
		}
	}
	described := []string{}
	for operation := range maps.Keys(apidocs.Read(t, apidocs.Private).Operations(t)) {
		if _, path, _ := strings.Cut(operation, " "); !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/metrics/") {
			described = append(described, operation)
		}
	}
	slices.Sort(want)
	slices.Sort(described)
	if diff := cmp.Diff(want, described); diff != "" {
		t.Errorf("paths: in the code (-), in docs/api/%s (+):\n%s", apidocs.Private, diff)
	}
}
