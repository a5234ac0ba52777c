package roster_test

import (
	"testing"
	"time"

	"orgcast/internal/pubsub/roster"
)

// TestRoomAfterPause: after a pause, a group that caused a flood may send little at first. A group
// that was slightly over its budget may send a full burst.
func TestRoomAfterPause(t *testing.T) {
	tests := map[string]struct {
		over, pause time.Duration
		least, most time.Duration
	}{
		"a little too fast":               {time.Second, 200 * time.Millisecond, 190 * time.Millisecond, 200 * time.Millisecond},
		"a flood":                         {20 * time.Millisecond, 200 * time.Millisecond, 15 * time.Millisecond, 25 * time.Millisecond},
		"a flood that delayed others":     {20 * time.Millisecond, 2 * time.Second, time.Millisecond, 3 * time.Millisecond},
		"too fast, and it delayed others": {time.Second, 2 * time.Second, 20 * time.Millisecond, 25 * time.Millisecond},
		"all at once":                     {0, 200 * time.Millisecond, time.Millisecond, time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := roster.RoomAfter(tt.over, 1000, tt.pause); got < tt.least || got > tt.most {
				t.Errorf("got room for %v, want %v to %v", got, tt.least, tt.most)
			}
		})
	}
}
