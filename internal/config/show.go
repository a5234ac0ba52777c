package config

import (
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Instead has Effective show what applies while a setting has no value, or its value stands for
// another one, as 0 does for a derived number.
func (s *Set) Instead(name string, effective func() string) {
	if st := s.named(name); st != nil {
		st.effective = effective
	}
}

// Reloads marks settings that a reload can change. A secret is marked with the file that holds it.
func (s *Set) Reloads(names ...string) {
	for _, name := range names {
		if st := s.named(name); st != nil {
			st.reloads = true
		}
	}
	for _, st := range s.settings {
		if st.hold != nil {
			st.reloads = st.hold.reloads
		}
	}
}

// named is find for the program that declares the settings. If it names a setting that does not
// exist, Parse says so.
func (s *Set) named(name string) *setting {
	st := s.find(name)
	if st == nil {
		s.mistakes = append(s.mistakes, fmt.Errorf("--%s: not declared", name))
	}
	return st
}

// Changes returns which settings have another value in next, a set with the same settings: those
// that a reload can change, and those that need a restart.
func (s *Set) Changes(next *Set) (reloaded, restart []string) {
	for _, st := range s.settings {
		other := next.find(st.name)
		if other == nil || st == s.file || reflect.DeepEqual(st.get(), other.get()) {
			continue
		}
		if st.reloads {
			reloaded = append(reloaded, st.name)
		} else {
			restart = append(restart, st.name)
		}
	}
	return reloaded, restart
}

// Effective writes every setting with its value and where it came from. Secrets show only whether
// they are set.
func (s *Set) Effective(w io.Writer) {
	for _, st := range s.sorted() {
		value := st.text
		switch {
		case st.secret && value != "":
			value = "(set, not shown)"
		case value != "" && st.show != nil:
			value = st.show(value)
		case st.effective != nil && st.err == nil:
			value = cmp.Or(st.effective(), value)
		}
		_, _ = fmt.Fprintf(w, "%-28s %-40s %s\n", st.name, cmp.Or(value, "-"), cmp.Or(st.source, fromDefault)) // best effort: w is a terminal
	}
}

// Usage returns the text above the list of settings.
func (s *Set) Usage() string { return strings.TrimSpace(s.usage) + "\n" }

// Help writes the usage text and the list of settings.
func (s *Set) Help(w io.Writer) {
	var b strings.Builder
	b.WriteString(s.Usage())
	if len(s.settings) > 0 {
		b.WriteString("\nSettings (flag, environment variable, default):\n")
	}
	for _, st := range s.settings {
		fmt.Fprintf(&b, "  --%-26s %s", st.name, cmp.Or(st.env, "–"))
		if st.fallback != "" {
			fmt.Fprintf(&b, "  [%s]", st.fallback)
		}
		fmt.Fprintf(&b, "\n        %s\n", st.help)
	}
	_, _ = io.WriteString(w, b.String()) // best effort: w is a terminal
}

// Markdown writes the settings as a table for the documentation. If a reload can change any of
// them, a column says which.
func (s *Set) Markdown(w io.Writer) {
	reloads := slices.ContainsFunc(s.settings, func(st *setting) bool { return st.reloads })
	head, line := "| flag | environment | default | meaning |\n", "| --- | --- | --- | --- |\n"
	if reloads {
		head, line = "| flag | environment | default | reload | meaning |\n", "| --- | --- | --- | --- | --- |\n"
	}
	_, _ = io.WriteString(w, head+line) // best effort: w is a terminal
	for _, st := range s.settings {
		cells := []string{"`--" + st.name + "`", "–", "–"}
		if st.env != "" {
			cells[1] = "`" + st.env + "`"
		}
		if st.fallback != "" {
			cells[2] = "`" + st.fallback + "`"
		}
		if reloads {
			cells = append(cells, map[bool]string{true: "yes", false: "–"}[st.reloads])
		}
		cells = append(cells, strings.ReplaceAll(st.help, "|", "\\|"))
		_, _ = fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

func (s *Set) sorted() []*setting {
	all := append([]*setting(nil), s.settings...)
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}
