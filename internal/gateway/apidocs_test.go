package gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/gateway"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedFrames: docs/api has the fields of the frames that this package sends.
func TestDescribedFrames(t *testing.T) {
	d := apidocs.Read(t, apidocs.Frames)
	for name, of := range gateway.Frames() {
		d.Same(t, of, name)
	}
}

// TestDescribedCloseCodes: docs/api has all close codes with their reasons, and no others. Browsers
// make one of them, and the console's and the hooks' have causes of their own here.
func TestDescribedCloseCodes(t *testing.T) {
	const madeByBrowsers = 1006
	want := make(map[int]map[string]bool)
	for _, c := range gateway.Table() {
		if c.Code == 1008 { // of refusals before the upgrade, which no client sees as a code
			continue
		}
		if want[c.Code] == nil {
			want[c.Code] = make(map[string]bool)
		}
		if c.Reason != "" {
			want[c.Code][c.Reason] = true
		}
	}
	d := apidocs.Read(t, apidocs.Frames)
	list, _ := d.At(t, "x-close-codes").([]any)
	got := make(map[int]map[string]bool)
	for _, entry := range list {
		row, _ := entry.(apidocs.Object)
		code, err := strconv.Atoi(fmt.Sprint(row["code"]))
		if err != nil || got[code] != nil {
			t.Errorf("code %v: not a number, or there twice", row["code"])
		}
		got[code] = make(map[string]bool)
		for _, reason := range apidocs.Texts(row["reasons"]) {
			got[code][reason] = true
		}
		if row["client"] != "stop" && row["client"] != "retry" {
			t.Errorf("code %d: the client should %v", code, row["client"])
		}
	}
	if got[madeByBrowsers] == nil {
		t.Errorf("docs/api does not have %d", madeByBrowsers)
	}
	delete(got, madeByBrowsers)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("close codes: in the code (-), in docs/api (+):\n%s", diff)
	}
	for code, told := range map[int]string{1012: gateway.DrainText(4711), 1013: gateway.DrainText(5000)} {
		if err := d.Schema(t, "RetryAfter", []byte(told)); err != nil {
			t.Errorf("%d %s: %v", code, told, err)
		}
	}
}

// TestDescribedRefusals: docs/api has the codes of refusals of handshakes with their statuses.
func TestDescribedRefusals(t *testing.T) {
	d := apidocs.Read(t, apidocs.Public)
	socket := d.Codes(d.Object(t, "components", "pathItems", "Socket", "get"))
	want := make(map[string][]string)
	for _, c := range gateway.Table() {
		status := strconv.Itoa(c.Status)
		if c.Name != "" && !slices.Contains(want[status], c.Name) {
			want[status] = append(want[status], c.Name)
		}
	}
	for _, list := range want {
		slices.Sort(list)
	}
	if diff := cmp.Diff(want, socket); diff != "" {
		t.Errorf("codes by status: in the code (-), in docs/api (+):\n%s", diff)
	}
	// A stream is refused for the same reasons, except that it is no handshake.
	post := d.Codes(d.Object(t, "components", "pathItems", "Stream", "post"))
	for status, list := range want {
		for _, code := range list {
			if code != "no_handshake" && !slices.Contains(post[status], code) {
				t.Errorf("streams: docs/api does not have %s with status %s", code, status)
			}
		}
	}
	for _, status := range slices.Sorted(maps.Keys(want)) {
		text, err := json.Marshal(map[string]string{"code": want[status][0]})
		if err == nil {
			err = d.Schema(t, "Refusal", text)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
