// Package config reads the settings of a process from flags and environment. Each setting has one
// declaration, from which come its flag, its environment variable, its default, its help text and
// its line in the effective settings. A flag wins over the environment. Every mistake is reported,
// not only the first, and secrets are never printed.
package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// EnvPrefix starts the name of every environment variable: --admin-listen is
// ORGCAST_ADMIN_LISTEN.
const EnvPrefix = "ORGCAST_"

// Set is a list of settings, declared one by one, then filled by [Set.Parse].
type Set struct {
	name      string
	settings  []*setting
	flags     *flag.FlagSet
	usage     string
	flagsOnly bool
}

type setting struct {
	name, fallback, help string
	env                  string // its variable; empty if it has none
	secret               bool
	show                 func(string) string // what to print instead of the value; nil: the value
	parse                func(string) error
	isBool               bool

	value, source string
	err           error
}

// New returns an empty Set. usage is the text above the list of settings in the help.
func New(name, usage string) *Set {
	s := &Set{name: name, usage: usage, flags: flag.NewFlagSet(name, flag.ContinueOnError)}
	s.flags.SetOutput(io.Discard)
	s.flags.Usage = func() {}
	return s
}

// Name returns the name of the subcommand that the settings belong to.
func (s *Set) Name() string { return s.name }

// FlagsOnly gives the settings declared after it no environment variable. It is for what describes
// one call of a subcommand and would be a surprise in the next, or means something else to serve.
func (s *Set) FlagsOnly() { s.flagsOnly = true }

func (s *Set) add(st *setting) {
	if !s.flagsOnly {
		st.env = envName(st.name)
	}
	s.settings = append(s.settings, st)
	s.flags.Var(flagValue{st}, st.name, st.help)
	if st.secret {
		file := &setting{name: st.name + "-file", help: "file that holds --" + st.name}
		if st.env != "" {
			file.env = envName(file.name)
		}
		file.parse = func(path string) error {
			b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
			if err != nil {
				return fmt.Errorf("cannot read the file: %w", withoutPath(err))
			}
			text := strings.TrimSpace(string(b))
			if text == "" { // or what it protects would quietly be off, or open
				return errors.New("the file is empty")
			}
			st.set(text, "file "+path)
			return nil
		}
		s.settings = append(s.settings, file)
		s.flags.Var(flagValue{file}, file.name, file.help)
	}
}

// set notes a value and its mistake, if it has one.
func (st *setting) set(text, source string) {
	st.value, st.source = text, source
	st.err = st.parse(text)
}

// flagValue collects mistakes instead of letting the flag package stop at the first.
type flagValue struct{ st *setting }

func (v flagValue) String() string {
	if v.st == nil {
		return ""
	}
	return v.st.fallback
}

func (v flagValue) Set(text string) error {
	v.st.set(text, "flag")
	return nil
}

func (v flagValue) IsBoolFlag() bool { return v.st.isBool }

// String declares a text. check may be nil.
func (s *Set) String(p *string, name, fallback, help string, check func(string) error) {
	s.add(&setting{name: name, fallback: fallback, help: help, parse: func(text string) error {
		*p = text
		if check == nil {
			return nil
		}
		return check(text)
	}})
}

// Secret declares a text that is never printed and can also be given as --name-file.
func (s *Set) Secret(p *string, name, help string, check func(string) error) {
	s.add(&setting{name: name, help: help, secret: true, parse: func(text string) error {
		*p = text
		if check == nil || text == "" {
			return nil
		}
		return check(text)
	}})
}

// URL declares a text that may hold a password, which is never printed.
func (s *Set) URL(p *string, name, fallback, help string, check func(string) error) {
	s.add(&setting{name: name, fallback: fallback, help: help, show: withoutPassword, parse: func(text string) error {
		*p = text
		return check(text)
	}})
}

// withoutPassword returns a URL as it may be printed.
func withoutPassword(text string) string {
	u, err := url.Parse(text)
	// The password may be anywhere, or part of it was parsed as something else.
	if err != nil || u.Scheme == "" || u.Opaque != "" || u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@") {
		return "(not a URL)"
	}
	return u.Redacted()
}

// List declares a comma-separated list of texts.
func (s *Set) List(p *[]string, name, fallback, help string, check func([]string) error) {
	s.add(&setting{name: name, fallback: fallback, help: help, parse: func(text string) error {
		*p = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
		if check == nil {
			return nil
		}
		return check(*p)
	}})
}

// Choice declares one of a few words.
func (s *Set) Choice(p *string, name, fallback string, choices []string, help string) {
	s.String(p, name, fallback, help+" ("+strings.Join(choices, ", ")+")", func(text string) error {
		if slices.Contains(choices, text) {
			return nil
		}
		return fmt.Errorf("must be one of %s", strings.Join(choices, ", "))
	})
}

// Int declares an integer that is at least low.
func (s *Set) Int(p *int, name string, fallback, low int, help string) {
	s.add(&setting{name: name, fallback: strconv.Itoa(fallback), help: help, parse: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("must be an integer")
		}
		if n < low {
			return fmt.Errorf("must be at least %d", low)
		}
		*p = n
		return nil
	}})
}

// Float declares a number above zero.
func (s *Set) Float(p *float64, name string, fallback float64, help string) {
	s.add(&setting{name: name, fallback: strconv.FormatFloat(fallback, 'g', -1, 64), help: help, parse: func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n > 0) {
			return errors.New("must be a number greater than 0")
		}
		*p = n
		return nil
	}})
}

// FloatFrom declares a number that is at least low.
func (s *Set) FloatFrom(p *float64, name string, fallback, low float64, help string) {
	s.add(&setting{name: name, fallback: strconv.FormatFloat(fallback, 'g', -1, 64), help: help, parse: func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return errors.New("must be a number")
		}
		if n < low {
			return fmt.Errorf("must be at least %g", low)
		}
		*p = n
		return nil
	}})
}

// Duration declares a duration that is at least low.
func (s *Set) Duration(p *time.Duration, name string, fallback, low time.Duration, help string) {
	s.add(&setting{name: name, fallback: fallback.String(), help: help, parse: func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("must be a duration, such as 10s or 5m")
		}
		if d < low {
			return fmt.Errorf("must be at least %s", low)
		}
		*p = d
		return nil
	}})
}

// Bool declares a switch.
func (s *Set) Bool(p *bool, name string, fallback bool, help string) {
	s.add(&setting{name: name, fallback: strconv.FormatBool(fallback), help: help, isBool: true, parse: func(text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		*p = b
		return nil
	}})
}

// ErrHelp is returned by Parse if the arguments ask for help.
var ErrHelp = flag.ErrHelp

// Parse fills the settings from their defaults, the environment and the arguments, in this order,
// then runs the checks across settings. It returns the remaining arguments, and one error that
// names every mistake.
func (s *Set) Parse(args []string, getenv func(string) string, checks ...func() error) ([]string, error) {
	for _, st := range s.settings {
		if st.fallback != "" {
			st.set(st.fallback, "default")
		}
	}
	for _, st := range s.settings {
		if st.env == "" {
			continue
		}
		if text := getenv(st.env); text != "" {
			st.set(text, "environment")
		}
	}
	rest, mistakes := s.parseFlags(args)
	if slices.Contains(mistakes, ErrHelp) {
		return nil, ErrHelp
	}
	for _, st := range s.settings {
		if st.err == nil {
			continue
		}
		for line := range strings.SplitSeq(st.err.Error(), "\n") { // of a list, each part that is wrong
			mistakes = append(mistakes, fmt.Errorf("--%s (from %s): %s", st.name, st.source, line))
		}
	}
	for _, check := range checks {
		err := check()
		if err == nil {
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !s.alreadyWrong(line) {
				mistakes = append(mistakes, errors.New(line))
			}
		}
	}
	return rest, errors.Join(mistakes...)
}

// parseFlags reads the flags and returns the other arguments. Unlike package flag, it also finds
// flags between and after those. After "--" it looks for none.
func (s *Set) parseFlags(args []string) (rest []string, mistakes []error) {
	for {
		if err := s.flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, []error{err}
			}
			mistakes = append(mistakes, s.flagMistake(err)) // the rest is still worth a look
			args = s.flags.Args()
			continue
		}
		left := s.flags.Args()
		if read := len(args) - len(left); len(left) == 0 || read > 0 && args[read-1] == "--" {
			return append(rest, left...), mistakes
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// Variables returns the environment variables that Parse reads.
func (s *Set) Variables() []string {
	var names []string
	for _, st := range s.settings {
		if st.env != "" {
			names = append(names, st.env)
		}
	}
	return names
}

// envName returns the variable of a setting.
func envName(name string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Effective writes every setting with its value and where it came from. Secrets show only whether
// they are set.
func (s *Set) Effective(w io.Writer) {
	for _, st := range s.sorted() {
		value := st.value
		switch {
		case st.secret && value != "":
			value = "(set, not shown)"
		case value == "":
			value = "-"
		case st.show != nil:
			value = st.show(value)
		}
		source := st.source
		if source == "" {
			source = "default"
		}
		_, _ = fmt.Fprintf(w, "%-28s %-40s %s\n", st.name, value, source) // best effort: w is a terminal
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

// Markdown writes the settings as a table for the documentation.
func (s *Set) Markdown(w io.Writer) {
	_, _ = io.WriteString(w, "| flag | environment | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, st := range s.settings {
		variable, fallback := "–", "–"
		if st.env != "" {
			variable = "`" + st.env + "`"
		}
		if st.fallback != "" {
			fallback = "`" + st.fallback + "`"
		}
		_, _ = fmt.Fprintf(w, "| `--%s` | %s | %s | %s |\n", st.name, variable, fallback, strings.ReplaceAll(st.help, "|", "\\|"))
	}
}

func (s *Set) sorted() []*setting {
	all := append([]*setting(nil), s.settings...)
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}
