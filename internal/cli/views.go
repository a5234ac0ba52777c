package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

// answered is what the answers of all views have in common.
type answered struct {
	Complete bool
	Next     string
	Nodes    []struct {
		Node  string `json:"node"`
		State string `json:"state"`
	}
}

// missing says which nodes did not answer, or "".
func (a answered) missing() string {
	var list []string
	for _, n := range a.Nodes {
		if n.State != "" && n.State != "answered" {
			list = append(list, n.Node+" ("+n.State+")")
		}
	}
	switch {
	case len(list) > 0:
		return "Without the connections of " + strings.Join(list, ", ") + "."
	case !a.Complete:
		return "Redis does not say which other nodes there are; this is what the asked node has."
	default:
		return ""
	}
}

// rowsAtOnce is how many rows a page has.
const rowsAtOnce = inventory.MaxLimit

// readPages reads pages of a view until it has so many rows. page returns where the next page goes, and
// how many rows are there after it. more says that there are further rows.
func (a *adminSettings) readPages(ctx context.Context, path string, query url.Values, limit int, page func() (into any, read func() (next string, rows int))) (more bool, err error) {
	for left := limit; ; {
		query.Set("limit", strconv.Itoa(min(left, rowsAtOnce)))
		into, read := page()
		if err := a.readJSON(ctx, path, query, into); err != nil {
			return false, err
		}
		next, rows := read()
		if left = limit - rows; next == "" || left <= 0 {
			return next != "", nil
		}
		query.Set("cursor", next)
	}
}

// printJSON prints a value as one line.
func (p *Process) printJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Stdout, string(text))
	return err
}

// optionalOrganization returns the organization that arguments name, or "".
func optionalOrganization(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if !orgctx.ValidID(args[0]) {
		return "", misuse(fmt.Errorf("organization %q: %w", args[0], orgctx.ErrInvalidID))
	}
	return args[0], nil
}

// nameOrNone shows the users without an organization, who have no name.
func nameOrNone(organization string) string {
	if organization == "" {
		return "(none)"
	}
	return organization
}

// inBytes shows a number of bytes with a unit.
func inBytes[N int | int64 | uint64](n N) string {
	const units = "KMGTPE"
	size, unit := float64(n), -1
	for size >= 1000 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if unit < 0 {
		return strconv.FormatInt(int64(n), 10) + " B"
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " " + units[unit:unit+1] + "iB"
}

// inSeconds shows a time that something waits.
func inSeconds(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}

// plain makes text safe for a terminal: what could move its cursor or change its colors is escaped.
// Text of JSON stays JSON, because only what is quoted there can be escaped here.
func plain(text string) string {
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// hidden reports whether a terminal does not show a character as such.
func hidden(r rune) bool { return !unicode.IsPrint(r) }

// note prints a line after a table, if there is one to print.
func note(w io.Writer, text string) error {
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintln(w, "\n"+text)
	return err
}
