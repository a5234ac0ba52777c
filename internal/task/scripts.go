package task

import (
	"github.com/redis/go-redis/v9"

	"orgcast/clients/lua"
)

// script returns the script in clients/lua/NAME.v1.lua.
func script(name string) *redis.Script { return redis.NewScript(lua.Text(name + ".v1")) }
