package main

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit/redistest"
)

// TestSentinelPassword: the Sentinels' own password is the one in its setting.
func TestSentinelPassword(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	locked := sentinels.Addrs[2]
	admin := redis.NewClient(&redis.Options{Addr: locked, DisableIdentity: true})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetpass", ">watch").Err(); err != nil {
		t.Fatal(err)
	}
	env := environment{"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS": locked}
	publish := func() error {
		_, _, err := execute(t, env, "", "publish", "--record", "acme", "all", `{"type":"note"}`)
		return err
	}
	if err := publish(); err == nil {
		t.Error("publish without the password: got nil, want an error")
	}
	env["ORGCAST_REDIS_SENTINEL_PASSWORD"] = "watch"
	if err := publish(); err != nil {
		t.Errorf("publish with the password: got %v, want nil", err)
	}
}
