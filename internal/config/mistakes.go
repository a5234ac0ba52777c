package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// withoutPath returns the reason of a failed read. The path may be the secret itself, if someone mixes
// up the two settings.
func withoutPath(err error) error {
	if why, ok := errors.AsType[*fs.PathError](err); ok {
		return why.Err
	}
	return err
}

// alreadyWrong reports whether a check misses a setting that was given, with a mistake that is reported.
func (s *Set) alreadyWrong(line string) bool {
	name, _, missing := strings.Cut(line, ": required")
	return missing && slices.ContainsFunc(s.settings, func(st *setting) bool {
		return st.err != nil && (name == "--"+st.name || name+"-file" == "--"+st.name)
	})
}

// flagMistake words an error of package flag like the other mistakes.
func (s *Set) flagMistake(err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		names := make([]string, len(s.settings))
		for i, st := range s.settings {
			names[i] = "--" + st.name
		}
		return fmt.Errorf("--%s: %w%s", name, ErrUnknownFlag, DidYouMean("--"+name, names))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s: needs a value", name)
	}
	return err
}

// maxDistance is how many letters of a name may be wrong for a suggestion.
const maxDistance = 4

// DidYouMean suggests the known name that is nearest, if one is near. A short name has few letters to spare.
func DidYouMean(name string, known []string) string {
	best, least := "", min(maxDistance, len(name)/3)+1
	for _, other := range known {
		if d := distance(name, other); d < least {
			best, least = other, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is how many letters must be put in, left out or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := left
			if a[i] != b[j] {
				replaced++
			}
			left = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
