package faults_test

import (
	"net/http"
	"strconv"
	"testing"

	"orgcast/internal/testkit"
)

// TestOrganizationLimit: an organization's limit holds over two gateways, which say when to come
// back; the share of one that is killed becomes free; and the limit can be changed while they run.
func TestOrganizationLimit(t *testing.T) {
	small(t)
	const limit = 20
	binary, d := buildGateway(t), single(t)
	env := append(d.env, "ORGCAST_MAX_PER_ORGANIZATION="+strconv.Itoa(limit))
	nodes := []*process{startGateway(t, binary, env...), startGateway(t, binary, env...)}
	for _, node := range nodes {
		testkit.Eventually(t, "ready", func() bool { return node.ready(t.Context()) })
	}
	// enter connects for as long as the gateway lets anyone in, and returns for how many it did.
	enter := func(node *process, most int) (admitted int) {
		t.Helper()
		for ; admitted < most; admitted++ {
			c, answer := testkit.Try(t, testkit.DialTCP(node.public), handshake(t, "acme"))
			if c != nil {
				continue
			}
			if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); answer.Status != http.StatusTooManyRequests || err != nil || seconds < 1 {
				t.Fatalf("refusal: got %d with Retry-After %q, want 429 and when to come back", answer.Status, answer.Header.Get("Retry-After"))
			}
			break
		}
		return admitted
	}
	set := func(limit int) {
		t.Helper()
		if err := d.client.HSet(t.Context(), "orgcast:{acme}:org", "max_connections", limit).Err(); err != nil {
			t.Fatal(err)
		}
	}
	dead := enter(nodes[0], limit/2)
	alive := enter(nodes[1], 2*limit)
	dead += enter(nodes[0], 2*limit)
	if all := dead + alive; all > limit || all < limit-1 { // a node may hold one in advance
		t.Errorf("two gateways admit %d and %d, want %d together", dead, alive, limit)
	}
	if c, _ := testkit.Try(t, testkit.DialTCP(nodes[1].public), handshake(t, "globex")); c == nil {
		t.Error("another organization is refused")
	}
	set(limit + 5)
	alive += enter(nodes[1], 2*limit)
	if all := dead + alive; all > limit+5 || all < limit+4 {
		t.Errorf("with 5 more: got %d connections, want %d", all, limit+5)
	}
	set(limit)
	if more := enter(nodes[1], 1); more != 0 {
		t.Error("with the limit lowered one more gets in")
	}
	nodes[0].kill()
	testkit.Eventually(t, "the dead gateway's share becomes free", func() bool {
		alive += enter(nodes[1], 2*limit)
		return alive >= limit
	})
	if alive != limit {
		t.Errorf("after the death of a gateway: got %d connections, want %d", alive, limit)
	}
}
