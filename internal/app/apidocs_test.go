package app_test

import (
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/app"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedRoutes: docs/api has the built-in routes as sockets, as streams and as channels of
// frames, and no others.
func TestDescribedRoutes(t *testing.T) {
	patterns, err := app.Patterns()
	if err != nil {
		t.Fatal(err)
	}
	frames, public := apidocs.Read(t, apidocs.Frames), apidocs.Read(t, apidocs.Public)
	channels, paths := frames.Object(t, "channels"), public.Object(t, "paths")
	form := regexp.MustCompile(`:\w+}`)
	for name, pattern := range patterns {
		socket := form.ReplaceAllString(pattern, "}")
		channel, _ := channels[name].(apidocs.Object)
		if channel["address"] != socket {
			t.Errorf("%s: docs/api has the address %v, want %s", name, channel["address"], socket)
		}
		delete(channels, name)
		for path, item := range map[string]string{socket: "Socket", "/sse/" + strings.TrimPrefix(socket, "/ws/"): "Stream"} {
			described, _ := paths[path].(apidocs.Object)
			if described["$ref"] != "#/components/pathItems/"+item {
				t.Errorf("docs/api does not have %s as a %s", path, item)
			}
			if (described["parameters"] != nil) != (strings.Contains(path, "{") || name == "chat") {
				t.Errorf("%s: docs/api has the parameters %v", path, described["parameters"])
			}
			delete(paths, path)
		}
		for _, direction := range []string{"Receive", "Send"} {
			operation := frames.Object(t, "operations", name+direction)
			if ref := operation["channel"].(apidocs.Object)["$ref"]; ref != "#/channels/"+name || operation["action"] != strings.ToLower(direction) {
				t.Errorf("%s%s: got %v of %v", name, direction, operation["action"], ref)
			}
		}
	}
	for name := range channels {
		t.Errorf("docs/api has the channel %s, which does not exist", name)
	}
	if got, want := len(frames.Object(t, "operations")), 2*len(patterns); got != want {
		t.Errorf("docs/api has %d operations of channels, want %d", got, want)
	}
	for path := range paths {
		if !strings.HasPrefix(path, "/console") && path != "/healthz" {
			t.Errorf("docs/api has the path %s, which does not exist", path)
		}
	}
}
