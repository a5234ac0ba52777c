package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"orgcast/internal/yamlfile"
)

// fileSetting is the setting that names the settings file.
const fileSetting = "config"

// File declares --config, before all other settings. elsewhere returns the sets of other
// subcommands. The file may have their settings, too, so that one file serves all of them.
func (s *Set) File(elsewhere func() []*Set) {
	s.file = text(new(string), fileSetting, "", "settings file (YAML), with the names of the flags as keys; flags and environment win over it; default: none", nil)
	s.file.env, s.elsewhere = envName(fileSetting), elsewhere
	s.settings = slices.Insert(s.settings, 0, s.file)
	s.flags.Var(flagValue{s, s.file}, fileSetting, s.file.help)
}

// readFile returns the values of the settings file that the given values name, if they name one,
// and what is wrong with it.
func (s *Set) readFile(given []value) (values []value, mistakes []error) {
	path := ""
	for _, v := range given {
		if v.st == s.file {
			path = v.text
		}
	}
	if path == "" {
		return nil, nil
	}
	source := func(line int) string { return fmt.Sprintf("%s:%d", path, line) }
	b, err := yamlfile.Read(path)
	if err != nil {
		return nil, []error{fmt.Errorf("--%s: %s: %w", fileSetting, path, withoutPath(err))}
	}
	r := &fileReader{set: s, folder: filepath.Dir(path), source: source}
	root, err := yamlfile.Parse(b)
	if err != nil {
		for _, err := range parts(err) {
			if m, ok := errors.AsType[yamlfile.MistakeError](err); ok {
				r.wrong(m.Line, "%s", m.What)
				continue
			}
			r.mistakes = append(r.mistakes, fmt.Errorf("%s: %w", path, err))
		}
		return nil, r.mistakes
	}
	r.file(root)
	return r.values, r.mistakes
}

// parts returns the errors of which an error was joined.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// fileReader turns the file into values, and collects mistakes.
type fileReader struct {
	set      *Set
	folder   string
	source   func(line int) string
	values   []value
	mistakes []error
}

func (r *fileReader) wrong(line int, format string, args ...any) {
	if len(r.mistakes) < yamlfile.MaxMistakes {
		r.mistakes = append(r.mistakes, fmt.Errorf("%s: %s", r.source(line), fmt.Sprintf(format, args...)))
	}
}

// file reads the root. A file without any setting is valid.
func (r *fileReader) file(n *yamlfile.Node) {
	if n == nil {
		return
	}
	if n.Kind != yamlfile.Mapping {
		r.wrong(n.Line, "must be settings, such as listen: 127.0.0.1:8080, and not %s", n.Kind)
		return
	}
	var others []*Set
	if r.set.elsewhere != nil {
		others = r.set.elsewhere()
	}
	for _, m := range n.Object {
		st, own := r.set.find(m.Name), true
		for i := 0; st == nil && i < len(others); i++ {
			st, own = others[i].find(m.Name), false
		}
		switch {
		case m.Name == fileSetting:
			r.wrong(m.Line, "%s: a settings file cannot name another one", m.Name)
		case st == nil || st.env == "":
			r.wrong(m.Line, "unknown setting %q%s", m.Name, DidYouMean(plainName(m.Name), fileNames(r.set, others)))
		default:
			r.member(st, m, own)
		}
	}
}

// plainName spells a name as a flag if it is spelled as a variable.
func plainName(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, EnvPrefix)), "_", "-")
}

// fileNames returns the names that a file may have, except secrets.
func fileNames(own *Set, others []*Set) (names []string) {
	for _, set := range append([]*Set{own}, others...) {
		for _, st := range set.settings {
			if st.inFile() {
				names = append(names, st.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// inFile reports whether a settings file may have the setting.
func (st *setting) inFile() bool { return st.env != "" && !st.secret && st.name != fileSetting }

// member reads one setting. The value of a setting of another subcommand is its own concern.
func (r *fileReader) member(st *setting, m yamlfile.Member, own bool) {
	if st.secret {
		r.wrong(m.Line, "%s: a secret does not belong here: write it to its own file, and set %s-file to the name of that file", m.Name, m.Name)
		return
	}
	text, ok := r.text(st, m)
	if !ok || !own {
		return
	}
	if st.isPath && text != "" && !filepath.IsAbs(text) {
		text = filepath.Join(r.folder, text)
	}
	r.values = append(r.values, value{st, text, r.source(cmp.Or(m.Value.Line, m.Line))})
}

// text returns a value as a flag would have it.
func (r *fileReader) text(st *setting, m yamlfile.Member) (text string, ok bool) {
	n := m.Value
	switch n.Kind {
	case yamlfile.List:
		text, ok := r.list(st, m)
		return text, ok && r.mayStandHere(st, m, text)
	case yamlfile.Mapping:
		r.wrong(m.Line, "%s: must be %s, and not a mapping", m.Name, st.kind.describe())
		return "", false
	case yamlfile.Text:
		text = n.Text
	default:
		if string(n.Raw) == "null" {
			r.wrong(m.Line, "%s: has no value: remove the line for the default", m.Name)
			return "", false
		}
		text = n.Spelled
	}
	return text, r.mayStandHere(st, m, text)
}

// mayStandHere reports whether a value has no password.
func (r *fileReader) mayStandHere(st *setting, m yamlfile.Member, text string) bool {
	if st.show == nil || !slices.ContainsFunc(splitURLs(text), hasPassword) {
		return true
	}
	r.wrong(m.Line, "%s: a password does not belong here: remove it from the URL, write it to its own file, and set %s-password-file to the name of that file", m.Name, m.Name)
	return false
}

// list returns a list as comma-separated text.
func (r *fileReader) list(st *setting, m yamlfile.Member) (text string, ok bool) {
	if st.kind.name != isList {
		r.wrong(m.Line, "%s: must be %s, and not a list", m.Name, st.kind.describe())
		return "", false
	}
	var list []string
	for _, n := range m.Value.List {
		part := n.Text
		if n.Kind == yamlfile.Scalar {
			part = n.Spelled
		}
		switch {
		case n.Kind == yamlfile.List || n.Kind == yamlfile.Mapping || string(n.Raw) == "null" || strings.TrimSpace(part) == "":
			r.wrong(n.Line, "%s: each entry must be text", m.Name)
		case strings.Contains(part, ","):
			r.wrong(n.Line, "%s: an entry must not contain a comma: write each on a line of its own", m.Name)
		default:
			list = append(list, part)
		}
	}
	return strings.Join(list, ","), len(list) == len(m.Value.List)
}

// hasPassword reports whether a URL has a password.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil { // the check of the setting reports it
		return false
	}
	_, ok := u.User.Password()
	return ok
}

// describe returns what a value must be.
func (k kind) describe() string {
	switch k.name {
	case isList:
		return "text or a list of texts"
	case isInteger:
		return "an integer"
	case isNumber, isAboveZero:
		return "a number"
	case isDuration:
		return "a duration, such as 10s or 5m"
	case isBool:
		return "true or false"
	default:
		return "text"
	}
}
