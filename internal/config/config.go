// Package config reads the settings of a process from flags, environment and a settings file. Each
// setting has one declaration, from which come its flag, its environment variable, its name in the
// file, its default, its help text, its line in the effective settings and its entry in the JSON
// Schema. A flag wins over the environment, which wins over the file. Every mistake is reported, not
// only the first, and secrets are never printed.
package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
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
	given     []value       // by flags, in their order
	file      *setting      // --config; nil if the set reads no file
	elsewhere func() []*Set // sets whose settings the file may have, too
	mistakes  []error       // of the program that declares the settings
}

type setting struct {
	name, fallback, help string
	env                  string // its variable; empty if it has none
	kind                 kind
	secret               bool
	isPath               bool                // a file name, which in a file begins at the file's folder
	hold                 *setting            // of NAME-file: the secret that the file holds
	reloads              bool                // a reload can change it
	show                 func(string) string // what to print instead of the value; nil: the value
	effective            func() string       // what applies if nothing is set; may be nil
	parse                func(string) error
	get                  func() any // the parsed value

	text, source string
	err          error
}

// value is a text for a setting, and where it comes from.
type value struct {
	st           *setting
	text, source string
}

// Where values come from. Those of a file have the file and the line.
const (
	fromDefault     = "default"
	fromEnvironment = "environment"
	fromFlag        = "flag"
)

// New returns an empty Set. usage is the text above the list of settings in the help.
func New(name, usage string) *Set {
	s := &Set{name: name, usage: usage, flags: flag.NewFlagSet(name, flag.ContinueOnError)}
	s.flags.SetOutput(io.Discard)
	s.flags.Usage = func() {}
	return s
}

// Name returns the name of the subcommand that the settings belong to.
func (s *Set) Name() string { return s.name }

// FlagsOnly gives the settings declared after it no environment variable and no name in a file. It
// is for what describes one call of a subcommand and would be a surprise in the next, or means
// something else to serve.
func (s *Set) FlagsOnly() { s.flagsOnly = true }

func (s *Set) add(st *setting) {
	if !s.flagsOnly {
		st.env = envName(st.name)
	}
	s.settings = append(s.settings, st)
	s.flags.Var(flagValue{s, st}, st.name, st.help)
	if st.secret {
		s.addSecretFile(st)
	}
}

// addSecretFile declares the setting that names the file of a secret.
func (s *Set) addSecretFile(st *setting) {
	file := &setting{name: st.name + "-file", help: "file that holds --" + st.name, isPath: true, hold: st}
	if st.env != "" {
		file.env = envName(file.name)
	}
	file.get = func() any { return file.text }
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
	s.flags.Var(flagValue{s, file}, file.name, file.help)
}

// set notes a value and its mistake, if it has one.
func (st *setting) set(text, source string) {
	st.text, st.source = text, source
	st.err = st.parse(text)
}

// flagValue notes values instead of parsing them, because flags come last, and instead of letting
// the flag package stop at the first mistake.
type flagValue struct {
	set *Set
	st  *setting
}

func (v flagValue) String() string {
	if v.st == nil {
		return ""
	}
	return v.st.fallback
}

func (v flagValue) Set(text string) error {
	v.set.given = append(v.set.given, value{v.st, text, fromFlag})
	return nil
}

func (v flagValue) IsBoolFlag() bool { return v.st.kind.name == isBool }

// ErrHelp is returned by Parse if the arguments ask for help.
var ErrHelp = flag.ErrHelp

// ErrUnknownFlag is wrapped in the error of Parse if the arguments have a flag that is not declared.
// The value of such a flag may be among the remaining arguments.
var ErrUnknownFlag = errors.New("unknown flag")

// Parse fills the settings from their defaults, the file, the environment and the arguments, in
// this order, then runs the checks across settings. It returns the remaining arguments, and one
// error that names every mistake.
func (s *Set) Parse(args []string, getenv func(string) string, checks ...func() error) ([]string, error) {
	rest, mistakes := s.parseFlags(args)
	if slices.Contains(mistakes, ErrHelp) {
		return nil, ErrHelp
	}
	var values []value
	for _, st := range s.settings {
		if st.fallback != "" {
			values = append(values, value{st, st.fallback, fromDefault})
		}
	}
	var environment []value
	for _, st := range s.settings {
		if st.env == "" {
			continue
		}
		if text := getenv(st.env); text != "" {
			environment = append(environment, value{st, text, fromEnvironment})
		}
	}
	above := slices.Concat(environment, s.given)
	fromFile, wrong := s.readFile(above)
	s.assign(slices.Concat(values, fromFile, above))
	mistakes = slices.Concat(s.mistakes, mistakes, wrong, s.wrongValues())
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

// assign parses values in order, so that the last one of a setting counts. A secret and the file
// that holds it are two forms of one setting: the later one replaces the other.
func (s *Set) assign(values []value) {
	for _, v := range values {
		v.st.set(v.text, v.source)
		for _, file := range s.settings {
			if file.hold == v.st && v.text != "" {
				file.text, file.source, file.err = "", "", nil
			}
		}
	}
}

// wrongValues returns the mistakes in values of single settings.
func (s *Set) wrongValues() (mistakes []error) {
	for _, st := range s.settings {
		if st.err == nil {
			continue
		}
		for line := range strings.SplitSeq(st.err.Error(), "\n") { // of a list, each part that is wrong
			mistakes = append(mistakes, fmt.Errorf("--%s (from %s): %s", st.name, st.source, line))
		}
	}
	return mistakes
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

// find returns the setting with a name, or nil.
func (s *Set) find(name string) *setting {
	for _, st := range s.settings {
		if st.name == name {
			return st
		}
	}
	return nil
}

// envName returns the variable of a setting.
func envName(name string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
