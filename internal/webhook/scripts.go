package webhook

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var scriptFiles embed.FS

// scripts run in Redis, each at once or not at all.
type scripts struct{ write, beat, leave, claim, settle, retry, counts *redis.Script }

// newScripts returns the scripts of the folder lua.
func newScripts() scripts {
	read := func(name string) string {
		text, err := scriptFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			panic(err) // it is embedded
		}
		return string(text)
	}
	common := read("common")
	script := func(name string) *redis.Script { return redis.NewScript(common + read(name)) }
	return scripts{
		write: script("write"), beat: script("beat"), leave: script("leave"), claim: script("claim"), settle: script("settle"),
		retry: script("retry"), counts: script("counts"),
	}
}
