// Package lua holds the Lua scripts that run in Redis: what has to happen at once or not at all. The
// head of each file says what it does and what its keys and arguments are. Programs in other languages
// load the same files.
//
// A file is named NAME.vN.lua. Its keys, arguments and answers stay as they are; a script that needs
// others becomes a new file with the next number, and the old one stays until nobody runs it.
package lua

import "embed"

//go:embed *.v*.lua
var files embed.FS

// Text returns the script in the file NAME.lua, such as "record.v1".
func Text(name string) string {
	text, err := files.ReadFile(name + ".lua")
	if err != nil {
		panic(err) // the file is part of the program
	}
	return string(text)
}
