package config

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what a value of a setting is in a file and in the schema. The zero kind is text.
type kind struct {
	name    kindName
	choices []string // of a choice
	low     float64  // of a number
}

type kindName byte

const (
	isText kindName = iota
	isList          // of texts, or one comma-separated text
	isChoice
	isInteger
	isNumber
	isAboveZero // a number
	isDuration
	isBool
)

// String declares a text. check may be nil.
func (s *Set) String(p *string, name, fallback, help string, check func(string) error) {
	s.add(text(p, name, fallback, help, check))
}

// Path declares the name of a file. In a settings file, a relative path begins at the folder of
// that file. check may be nil.
func (s *Set) Path(p *string, name, fallback, help string, check func(string) error) {
	st := text(p, name, fallback, help, check)
	st.isPath = true
	s.add(st)
}

// Rules declares a text of comma-separated parts. In a settings file, it may be a list.
func (s *Set) Rules(p *string, name, fallback, help string, check func(string) error) {
	st := text(p, name, fallback, help, check)
	st.kind.name = isList
	s.add(st)
}

// Secret declares a text that is never printed and can also be given as --name-file.
func (s *Set) Secret(p *string, name, help string, check func(string) error) {
	st := text(p, name, "", help, func(text string) error {
		if check == nil || text == "" {
			return nil
		}
		return check(text)
	})
	st.secret = true
	s.add(st)
}

// URL declares a text that may hold a password, which is never printed.
func (s *Set) URL(p *string, name, fallback, help string, check func(string) error) {
	st := text(p, name, fallback, help, check)
	st.show = withoutPassword
	s.add(st)
}

// nextURL matches the comma before a further URL. A password in a URL may have commas.
var nextURL = regexp.MustCompile(`\s*,\s*([a-z]+://)`)

// splitURLs splits a comma-separated list of URLs.
func splitURLs(text string) []string {
	return strings.Split(nextURL.ReplaceAllString(strings.TrimSpace(text), "\n$1"), "\n")
}

// URLs declares a comma-separated list of URLs. In a settings file, it may be a list. It is printed
// without passwords.
func (s *Set) URLs(p *[]string, name, fallback, help string, check func(string) error) {
	s.add(&setting{name: name, fallback: fallback, help: help, show: withoutPasswords, kind: kind{name: isList}, get: func() any { return slices.Clone(*p) }, parse: func(text string) error {
		*p = nil
		if text == "" {
			return nil
		}
		*p = splitURLs(text)
		for _, one := range *p {
			if err := check(one); err != nil {
				return err
			}
		}
		return nil
	}})
}

// withoutPasswords returns a list of URLs as it may be printed.
func withoutPasswords(text string) string {
	list := splitURLs(text)
	for i, one := range list {
		list[i] = withoutPassword(one)
	}
	return strings.Join(list, ",")
}

// text returns a setting with a text.
func text(p *string, name, fallback, help string, check func(string) error) *setting {
	return &setting{name: name, fallback: fallback, help: help, get: func() any { return *p }, parse: func(text string) error {
		*p = text
		if check == nil {
			return nil
		}
		return check(text)
	}}
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

// List declares a comma-separated list of texts. In a settings file, it may be a list.
func (s *Set) List(p *[]string, name, fallback, help string, check func([]string) error) {
	s.add(&setting{name: name, fallback: fallback, help: help, kind: kind{name: isList}, get: func() any { return slices.Clone(*p) }, parse: func(text string) error {
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
	st := text(p, name, fallback, help+" ("+strings.Join(choices, ", ")+")", func(text string) error {
		if slices.Contains(choices, text) {
			return nil
		}
		return fmt.Errorf("must be one of %s", strings.Join(choices, ", "))
	})
	st.kind = kind{name: isChoice, choices: choices}
	s.add(st)
}

// number returns a setting with a parsed value.
func number[T any](p *T, name, fallback, help string, k kind, parse func(string) (T, error)) *setting {
	return &setting{name: name, fallback: fallback, help: help, kind: k, get: func() any { return *p }, parse: func(text string) error {
		v, err := parse(text)
		if err == nil {
			*p = v
		}
		return err
	}}
}

// Int declares an integer that is at least low.
func (s *Set) Int(p *int, name string, fallback, low int, help string) {
	s.add(number(p, name, strconv.Itoa(fallback), help, kind{name: isInteger, low: float64(low)}, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("must be an integer")
		}
		if n < low {
			return 0, fmt.Errorf("must be at least %d", low)
		}
		return n, nil
	}))
}

// Float declares a number above zero.
func (s *Set) Float(p *float64, name string, fallback float64, help string) {
	s.add(number(p, name, strconv.FormatFloat(fallback, 'g', -1, 64), help, kind{name: isAboveZero}, func(text string) (float64, error) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n > 0) {
			return 0, errors.New("must be a number greater than 0")
		}
		return n, nil
	}))
}

// FloatFrom declares a number that is at least low.
func (s *Set) FloatFrom(p *float64, name string, fallback, low float64, help string) {
	s.add(number(p, name, strconv.FormatFloat(fallback, 'g', -1, 64), help, kind{name: isNumber, low: low}, func(text string) (float64, error) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return 0, errors.New("must be a number")
		}
		if n < low {
			return 0, fmt.Errorf("must be at least %g", low)
		}
		return n, nil
	}))
}

// Duration declares a duration that is at least low.
func (s *Set) Duration(p *time.Duration, name string, fallback, low time.Duration, help string) {
	s.add(number(p, name, fallback.String(), help, kind{name: isDuration}, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("must be a duration, such as 10s or 5m")
		}
		if d < low {
			return 0, fmt.Errorf("must be at least %s", low)
		}
		return d, nil
	}))
}

// Bool declares a switch.
func (s *Set) Bool(p *bool, name string, fallback bool, help string) {
	s.add(number(p, name, strconv.FormatBool(fallback), help, kind{name: isBool}, func(text string) (bool, error) {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return false, errors.New("must be true or false")
		}
		return b, nil
	}))
}
