package consumer_test

import (
	"strconv"
	"testing"

	"orgcast/internal/consumer/consumertest"
)

// TestBoardForgetsOldRuns: a board remembers as many ended runs as a history can contain, however
// long it is open and however often runs end.
func TestBoardForgetsOldRuns(t *testing.T) {
	const most = 1100
	board := jobConsumers(new(consumertest.Services))["crew_kanban"]()
	c, ctx := open(t, board)
	update := func(id int, status string) {
		c.Deliver(ctx, board, c.Event(t, "crew_7_kanban", `{"type":"execution_update","execution_id":`+strconv.Itoa(id)+status+`}`, 0))
	}
	for id := range most + 1 {
		update(id, `,"status":"COMPLETED"`)
		update(id, `,"status":"COMPLETED"`)
	}
	c.Sent()
	for id, shown := range map[int]int{0: 1, 1: 0, most: 0} {
		update(id, ``)
		if got := len(c.Sent()); got != shown {
			t.Errorf("run %d, after its end: got %d frames, want %d", id, got, shown)
		}
	}
}
