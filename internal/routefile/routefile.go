// Package routefile reads the file of --routes-file: routes that need no code. It checks everything
// that can be checked before a connection comes, and says on which line a mistake stands.
// docs/consumers.md describes the file; routes.schema.json describes it to editors.
package routefile

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/outgoing"
	"orgcast/internal/yamlfile"
)

// schema is the JSON Schema of the file.
//
//go:embed routes.schema.json
var schema string

// Schema returns the JSON Schema of a routes file. It accepts what [Parse] accepts; it cannot know
// what depends on two places of the file, such as whether a path has the parameter that a group
// names.
func Schema() string { return schema }

// Route is a route of a file.
type Route struct {
	consumer.Declaration

	Line int
	// Hook is the program that decides in addition, nil if there is none. Declaration.Hook is left
	// to the caller.
	Hook *Hook
}

// Hook says which program decides for a route.
type Hook struct {
	URL     string
	KeyFile string
	Keys    outgoing.Keys // [Load] reads them
	Timeout time.Duration
	On      []string
}

// Load reads a file, and the files that it names, whose paths begin at the file's own folder.
func Load(path string) ([]Route, error) {
	text, err := yamlfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("file cannot be read: %w", err)
	}
	routes, err := Parse(text)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range routes {
		if r.Hook == nil {
			continue
		}
		if err := r.Hook.readKeys(filepath.Dir(path)); err != nil {
			errs = append(errs, yamlfile.MistakeError{Line: r.Line, What: fmt.Sprintf("path %s: hook: key-file: %v", r.Pattern, err)})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return routes, nil
}

func (h *Hook) readKeys(folder string) error {
	path := h.KeyFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("file cannot be read: %w", err)
	}
	h.Keys, err = outgoing.ParseKeys(string(text))
	return err
}

// Parse reads the text of a file. Its error has a line for each mistake.
func Parse(text []byte) ([]Route, error) {
	root, err := yamlfile.Parse(text)
	if err == nil && root == nil {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, err
	}
	r := new(reader)
	routes := r.file(root)
	if err := errors.Join(r.mistakes...); err != nil {
		return nil, err
	}
	return routes, nil
}

// reader collects mistakes.
type reader struct{ mistakes []error }

func (r *reader) wrong(n *yamlfile.Node, format string, args ...any) {
	if len(r.mistakes) < yamlfile.MaxMistakes {
		r.mistakes = append(r.mistakes, yamlfile.MistakeError{Line: n.Line, What: fmt.Sprintf(format, args...)})
	}
}

// mapping checks that a value is a mapping with no other keys than those that are known.
func (r *reader) mapping(n *yamlfile.Node, what string, known ...string) bool {
	if !r.is(n, yamlfile.Mapping, what) {
		return false
	}
	ok := true
	for _, m := range n.Object {
		if !slices.Contains(known, m.Name) {
			r.wrong(&yamlfile.Node{Line: m.Line}, "%s: unknown key %q; known are %s", what, m.Name, strings.Join(known, ", "))
			ok = false
		}
	}
	return ok
}

// is checks of which kind a value is.
func (r *reader) is(n *yamlfile.Node, k yamlfile.Kind, what string) bool {
	if n.Kind != k {
		r.wrong(n, "%s: must be %s", what, k)
	}
	return n.Kind == k
}

// list returns the values of a list that has no more than some.
func (r *reader) list(n *yamlfile.Node, what string, most int) []*yamlfile.Node {
	if n == nil || !r.is(n, yamlfile.List, what) {
		return nil
	}
	if len(n.List) > most {
		r.wrong(n, "%s: must have at most %d", what, most)
		return nil
	}
	return n.List
}
