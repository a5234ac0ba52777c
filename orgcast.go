// Package orgcast builds gateways with your own routes, tasks and tools in them.
//
// A program of a few lines is a whole gateway, with every subcommand and setting of the original:
//
//	func main() {
//		orgcast.Main(orgcast.Extension{
//			Routes: func(p orgcast.Parts) []orgcast.Route {
//				return []orgcast.Route{{Pattern: "/ws/report/{id:int}/", New: newReport}}
//			},
//			Kinds: func(orgcast.Parts) map[string]orgcast.Kind {
//				return map[string]orgcast.Kind{"report_build": {Run: build}}
//			},
//		})
//	}
//
// Build it, then run it as you would run the gateway: "serve" serves the route, and "worker" runs the tasks.
// The folder examples/extend has a complete program with its tests.
//
// # One organization at a time
//
// Everything that an extension is handed belongs to one organization: that of the session, for routes and handlers, and
// that of the task, for workers and tools. The context carries it, see [From], and so does the [Conn], the [Job] and the
// [Store]. No function takes the name of another one: groups, tasks, questions, objects and stored values are named
// inside the organization of the context, and a context without one is refused with [ErrNoOrganization].
//
// Most types are those that the gateway itself uses; their comments are the contract. The file testdata/api.txt lists
// every name, method and field that a program can reach, so a change of any of them shows in a review.
package orgcast

import (
	"net/http"
	"os"

	"orgcast/internal/app"
	"orgcast/internal/cli"
)

// Extension is what a program adds to the gateway. Fields that are nil add nothing.
//
// The functions are called when the process starts, before it serves or works. They keep the [Parts] that they are
// given and do not call them yet. Routes and Kinds are also called with empty Parts, when they are only
// checked or counted.
type Extension struct {
	// Version is what the program says it is, in its log and under "version". Default: dev.
	Version string
	// Routes are served in addition to the built-in ones, whatever --consumers says. Two routes that one path could
	// match are a mistake.
	Routes func(Parts) []Route
	// Handlers answer plain HTTP requests at the public listener. A key is a pattern of [net/http.ServeMux], such as
	// "GET /reports/{id}"; a path that has a route belongs to connections. Each handler stands behind a [Guard]: it
	// runs for active members of an active organization only, whose organization and user are in the context of
	// the request. A request that changes something must come from the gateway's own origin or from one of --origins.
	// A body may have up to 1 MiB.
	Handlers func(Parts) map[string]http.Handler
	// Kinds are the kinds of tasks that "worker" runs in addition to the built-in ones.
	Kinds func(Parts) map[string]Kind
	// Tools are what [RunTool] finds in these.
	Tools func(Parts) map[string]Tool
}

// Parts are the parts of the gateway that an extension uses. All of them act for the organization of the context that
// they are given, and refuse a context without one. They are safe for concurrent use. In a worker, only Objects and
// Directory are set: a [Job] has the rest.
type Parts struct {
	// Dispatcher hands work to workers.
	Dispatcher Dispatcher
	// Recorder publishes and records events of the server itself.
	Recorder Recorder
	// Inputs takes the answers of people to the questions of workers.
	Inputs Inputs
	// Requests remember what users asked for, so that the same request is the same work.
	Requests Requests
	// Owners know what belongs to one user alone.
	Owners Owners
	// Objects are what [Get] reads.
	Objects *Objects
	// Directory is what [Do] asks.
	Directory Directory
}

// Main runs the program: the gateway with the extension in it. It takes arguments, environment, files and signals from
// the process, and ends the process.
func Main(e Extension) {
	os.Exit(program(e).Main())
}

// program is the gateway with an extension.
func program(e Extension) cli.Program {
	g := cli.Program{Build: app.Build{Version: e.Version}}
	if g.Build.Version == "" {
		g.Build.Version = "dev"
	}
	g.Extension = app.Extension{
		Routes: with(e.Routes), Handlers: with(e.Handlers), Kinds: with(e.Kinds), Tools: with(e.Tools),
	}
	return g
}

// with makes a function of an extension one that the gateway calls.
func with[T any](fn func(Parts) T) func(app.Parts) T {
	if fn == nil {
		return nil
	}
	return func(p app.Parts) T { return fn(Parts(p)) }
}
