package clients_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// publishOnCluster publishes to Redis directly, and prints how many heard it.
const publishOnCluster = `
import sys
from orgcast.direct import Direct
from orgcast.space import connect

direct = Direct(connect(sys.argv[1], cluster=True, timeout=60))
for organization in ("acme", "globex", "initech"):
    print(direct.publish(organization, "all", {"type": "note"}).nodes)
    print(direct.record(organization, "all", {"type": "note"}, "key").nodes)
    print(direct.record(organization, "all", {"type": "note"}, "key").repeated)
print(direct.revoke({"type": "user.disabled", "user_id": "ada"}))
`

// TestPythonOnCluster: in a Redis Cluster the Python package finds the master of each organization, and
// publishes with SPUBLISH, which is what nodes hear.
func TestPythonOnCluster(t *testing.T) {
	if !slices.Contains(strings.Split(*languages, ","), "python") {
		return // it is not what is tested
	}
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for _, organization := range []string{"acme", "globex", "initech"} {
		heard := client.SSubscribe(ctx, "orgcast:{"+organization+"}:group:all")
		defer heard.Close()
		if _, err := heard.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	command, env := pythonCommand(t, "-c", publishOnCluster, "redis://"+cluster.Addrs()[0])
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if want := strings.Repeat("1\n1\nTrue\n", 3) + "revoked\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q\n%s", out, err, want, errOut.String())
	}
}
