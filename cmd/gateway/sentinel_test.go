package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestServeFollowsMaster: with Sentinel, pages and publishers go on after the master has crashed. The
// address in --redis does not count.
func TestServeFollowsMaster(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	s := startServe(t, "127.0.0.1:1", environment{
		"ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS": strings.Join(sentinels.Addrs, ","),
	})
	s.expectReady()
	page := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	before := sentinels.Master()
	sentinels.Servers[0].Stop()
	sentinels.AwaitMasterOtherThan(before)
	const event = `{"organization_id":"acme","type":"note","text":"after"}`
	testkit.Eventually(t, "the new master records events", func() bool {
		_, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","record":true,"idempotency_key":"k","event":`+event+`}`)
		return strings.Contains(body, `"status":"published"`)
	})
	page.Expect(t, event)
	s.expectReady()
}
