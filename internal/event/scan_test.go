package event_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orgcast/internal/event"
)

// TestScanPassesEveryValue scans each kind of value in each place, with and without space.
func TestScanPassesEveryValue(t *testing.T) {
	g := mustGroup(t, "7", "room")
	values := []string{
		`0`, `-1`, `1.5`, `1e5`, `-0.1E-10`, `true`, `false`, `null`, `""`, `"\\"`, `"\""`, `"\\\""`, `"{"`, `"}"`, `"]"`, `","`,
		`"\u0022"`, `"\/"`, `"€"`, `[]`, `{}`, `[[]]`, `[{}]`, `{"a":[]}`, `["]"]`, `{"}":"}"}`, `[1,2,"\"]",{"x":"\\"}]`,
	}
	for _, value := range values {
		for _, space := range []string{"", " ", "\n\t\r "} {
			for place := range 3 {
				fields := []string{`"type"` + space + `:` + space + `"t"`, `"organization_id"` + space + `:` + space + `7`}
				other := `"x"` + space + `:` + space + value
				fields = append(fields[:place], append([]string{other}, fields[place:]...)...)
				payload := space + "{" + space + strings.Join(fields, space+","+space) + space + "}" + space
				e, err := event.Decode(g, payload, testLimit, time.Time{})
				if err != nil {
					t.Errorf("%s: %v", payload, err)
					continue
				}
				if e.Type() != "t" {
					t.Errorf("%s: type: got %q, want t", payload, e.Type())
				}
			}
		}
	}
}

// TestScanFindsDuplicatesInEveryPlace puts a second name before and after each kind of value.
func TestScanFindsDuplicatesInEveryPlace(t *testing.T) {
	g := mustGroup(t, "7", "room")
	for _, value := range []string{`"\\"`, `[["]"]]`, `{"a":{"b":"}"}}`, `1`, `null`} {
		for _, payload := range []string{
			`{"organization_id":8,"x":` + value + `,"type":"t","organization_id":7}`,
			`{"x":` + value + `,"organization_id":7,"type":"t","organization_id":8}`,
			`{"organization_id":7,"type":"t","organization_id":8,"x":` + value + `}`,
			`{"organization_id":7,"type":"t","organization_id":` + value + `}`,
		} {
			if _, err := event.Decode(g, payload, testLimit, time.Time{}); !errors.Is(err, event.ErrDuplicateField) {
				t.Errorf("%s: got %v, want %v", payload, err, event.ErrDuplicateField)
			}
		}
	}
}
