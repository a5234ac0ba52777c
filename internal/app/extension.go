package app

import (
	"errors"
	"fmt"
	"net/http"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

// Extension is what a program that embeds the gateway adds to it. Nil fields add nothing. Routes
// and Kinds are also called with empty Parts, to check and count their results.
type Extension struct {
	// Routes are served in addition to the built-in ones, whatever Consumers says.
	Routes func(Parts) []consumer.Route
	// Handlers answer plain requests of members on the public listener, by pattern.
	Handlers func(Parts) map[string]http.Handler
	// Kinds are run by workers in addition to the built-in ones.
	Kinds func(Parts) map[string]task.Kind
	// Tools are the tools that these kinds can call by name.
	Tools func(Parts) map[string]task.Tool
}

// Parts are the parts of a process that an extension can use. A worker has only Objects and
// Directory.
type Parts struct {
	Dispatcher consumer.Dispatcher
	Recorder   consumer.Recorder
	Inputs     consumer.Inputs
	Requests   consumer.Requests
	Owners     consumer.Owners
	Objects    *directory.Objects
	Directory  orgctx.Directory
}

// parts returns the parts for an extension.
func (s *Services) parts() Parts {
	if s == nil {
		return Parts{}
	}
	return Parts{Dispatcher: s, Recorder: s, Inputs: s, Requests: s, Owners: s, Objects: s.objects, Directory: s.directory}
}

// addRoutes adds the routes of the extension, which must not overlap with others.
func (e *Extension) addRoutes(routes *consumer.Registry, services *Services) error {
	if e.Routes == nil {
		return nil
	}
	var errs []error
	for _, r := range e.Routes(services.parts()) {
		errs = append(errs, routes.AddApart(r))
	}
	return errors.Join(errs...)
}

// maxBody is how much of a body an extension's handler may read, in bytes.
const maxBody = 1 << 20

// handlers returns a handler for the plain requests that the extension answers. It passes others on
// to next. Paths that have a route belong to connections. A handler runs for members only: its
// context carries the organization and the user of the session, checked in the same way as for a
// connection.
func (n *Node) handlers(next http.Handler) (http.Handler, error) {
	e := &n.Options.Extension
	if e.Handlers == nil {
		return next, nil
	}
	mux := new(http.ServeMux)
	for pattern, h := range e.Handlers(n.services.parts()) {
		if err := handle(mux, pattern, n.forMembers(h)); err != nil {
			return nil, err
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _, connects := n.routes.Match(r.URL.EscapedPath())
		if _, pattern := mux.Handler(r); connects || pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// handle adds a handler, and returns a panic of ServeMux as an error, because the pattern comes
// from another program, and the message says what is wrong with it.
func handle(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if wrong := recover(); wrong != nil {
			err = fmt.Errorf("handler for %q: %v", pattern, wrong)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// forMembers wraps a handler so that it answers members only.
func (n *Node) forMembers(h http.Handler) http.Handler {
	guarded := orgctx.Guard(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := n.Gateway.Identify(w, r)
		if !ok {
			return
		}
		r = r.WithContext(orgctx.WithMember(r.Context(), who.Organization, orgctx.User(who.UserID)))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		guarded.ServeHTTP(w, r)
	})
}

// kindCount returns how many kinds the extension has.
func (e *Extension) kindCount() int {
	if e.Kinds == nil {
		return 0
	}
	return len(e.Kinds(Parts{}))
}

// addKinds adds the kinds of the extension to those of a worker, and returns its tools.
func (e *Extension) addKinds(kinds map[string]task.Kind, parts Parts) (tools map[string]task.Tool, err error) {
	if e.Kinds != nil {
		for name, kind := range e.Kinds(parts) {
			if _, ok := kinds[name]; ok {
				return nil, fmt.Errorf("kind %q of a task is already there", name)
			}
			kinds[name] = kind
		}
	}
	if e.Tools != nil {
		tools = e.Tools(parts)
	}
	return tools, nil
}
