package task

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

// files holds the Lua scripts: what has to happen at once or not at all.
//
//go:embed lua/*.lua
var files embed.FS

// script returns the script in lua/NAME.lua.
func script(name string) *redis.Script {
	text, err := files.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // the file is part of the program
	}
	return redis.NewScript(string(text))
}
