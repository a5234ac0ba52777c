package redislink_test

import (
	"errors"
	"testing"
	"time"

	"orgcast/internal/redislink"
)

// at returns a moment, in seconds since the link was opened.
func at(seconds float64) time.Time {
	return time.Unix(1700000000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// TestJudge: what a link must show within 2.5 s, and what does not count against it.
func TestJudge(t *testing.T) {
	const timeout = 2500 * time.Millisecond
	canary := func(h *redislink.Health, sent, accepted, returned float64) {
		channel, payload, number := h.Send(at(sent))
		if accepted >= 0 {
			h.Accept(channel, number, at(accepted))
		}
		if returned >= 0 {
			h.Arrived(at(returned))
			h.Return(payload, at(returned))
		}
	}
	question := func(h *redislink.Health, asked, answered float64) {
		h.Ask(at(asked))
		if answered >= 0 {
			h.Answered(at(answered))
		}
	}
	const never = -1
	for name, test := range map[string]struct {
		show        func(h *redislink.Health)
		now         float64
		unconfirmed time.Time
		strict      bool
		want        error
	}{
		"nothing is asked for": {func(*redislink.Health) {}, 10, time.Time{}, false, nil},
		"everything is answered": {func(h *redislink.Health) {
			canary(h, 0, 0.1, 0.2)
			question(h, 9, 9.1)
		}, 10, time.Time{}, false, nil},
		"an answer is not due yet": {func(h *redislink.Health) { question(h, 0, never) }, 2.4, time.Time{}, false, nil},
		"silent":                   {func(h *redislink.Health) { question(h, 0, never) }, 2.6, time.Time{}, false, redislink.ErrSilent},
		"an answer is overdue, and other things have arrived": {func(h *redislink.Health) { question(h, 0, never); h.Arrived(at(2)) }, 4, time.Time{}, false, nil},
		"silent later": {func(h *redislink.Health) { question(h, 0, never); h.Arrived(at(2)) }, 4.6, time.Time{}, false, redislink.ErrSilent},
		"a canary is overdue, and a later question was answered": {func(h *redislink.Health) {
			canary(h, 0, 0.1, never)
			question(h, 0.2, 3)
		}, 3.1, time.Time{}, false, redislink.ErrNoCanary},
		"a canary is overdue, and so is a later answer: it has much to carry": {func(h *redislink.Health) {
			canary(h, 0, 0.1, never)
			question(h, 0.2, never)
			h.Arrived(at(3))
		}, 3.1, time.Time{}, false, nil},
		"a canary is overdue, and only an earlier question was answered": {func(h *redislink.Health) {
			question(h, 0, 3)
			canary(h, 0.1, 0.2, never)
		}, 3.1, time.Time{}, false, nil},
		"a canary could not be published": {func(h *redislink.Health) {
			canary(h, 0, never, never)
			question(h, 0.2, 3)
		}, 10, time.Time{}, false, nil},
		"a later canary came, so the earlier one is not missed": {func(h *redislink.Health) {
			canary(h, 0, 0.1, never)
			canary(h, 1, 1.1, 1.2)
			question(h, 1.3, 3)
		}, 4, time.Time{}, false, nil},
		"its channel was taken away": {func(h *redislink.Health) {
			canary(h, 0, 0.1, never)
			question(h, 0.2, 3)
			h.SetCanary("canary", false)
			canary(h, 1, 1.1, never)
		}, 10, time.Time{}, false, nil},
		"a confirmation is overdue, and a later question was answered": {
			func(h *redislink.Health) { question(h, 0.5, 3) }, 3.1, at(0.2), false, redislink.ErrUnconfirmed,
		},
		"a confirmation is not due yet": {func(h *redislink.Health) { question(h, 0.5, 2) }, 2.6, at(0.2), false, nil},
		"strict: no canary came":        {func(h *redislink.Health) { canary(h, 0, never, never) }, 2.6, time.Time{}, true, redislink.ErrNoneAtAll},
		"strict: there is time":         {func(h *redislink.Health) { canary(h, 0, never, never) }, 2.4, time.Time{}, true, nil},
		"strict: one came, and then none": {
			func(h *redislink.Health) { canary(h, 0, 0.1, 1); h.Arrived(at(3)) }, 3.6, time.Time{}, true, redislink.ErrNoneAtAll,
		},
		"strict: they come": {func(h *redislink.Health) { canary(h, 0, 0.1, 1); canary(h, 2, 2.1, 3) }, 5.4, time.Time{}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := redislink.NewHealth(at(0))
			test.show(h)
			if got := h.Judge(at(test.now), timeout, test.strict, test.unconfirmed); !errors.Is(got, test.want) || got == nil != (test.want == nil) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestCanaryCounts: only the link's own canaries count, each once, on their channel.
func TestCanaryCounts(t *testing.T) {
	h := redislink.NewHealth(at(0))
	if err := h.Healthy(at(1), time.Second); !errors.Is(err, redislink.ErrNoCanary) {
		t.Errorf("before the first: got %v, want %v", err, redislink.ErrNoCanary)
	}
	channel, payload, _ := h.Send(at(1))
	if channel != "canary" {
		t.Errorf("channel: got %q", channel)
	}
	for _, strange := range []string{"", "n", "n:", "n:x", "n:0", "n:2", "m:1", "1"} {
		if _, latest := h.Return(strange, at(1.5)); latest || h.Healthy(at(1.5), time.Second) == nil {
			t.Errorf("%q counts", strange)
		}
	}
	if took, latest := h.Return(payload, at(1.5)); !latest || took != 500*time.Millisecond {
		t.Errorf("returned: got %v, %t, want 500ms, true", took, latest)
	}
	if _, latest := h.Return(payload, at(9)); latest {
		t.Error("it counts again")
	}
	if err := h.Healthy(at(2.5), time.Second); err != nil {
		t.Errorf("a second later: got %v, want nil", err)
	}
	if err := h.Healthy(at(2.6), time.Second); !errors.Is(err, redislink.ErrNoCanary) {
		t.Errorf("more than a second later: got %v, want %v", err, redislink.ErrNoCanary)
	}
	_, older, _ := h.Send(at(3))
	_, newer, _ := h.Send(at(4))
	if _, latest := h.Return(older, at(5)); latest || h.Healthy(at(5), time.Second) != nil {
		t.Error("one that was overtaken by the next does not count, or counts as the latest")
	}
	if took, latest := h.Return(newer, at(6)); !latest || took != 2*time.Second {
		t.Errorf("the latest: got %v, %t, want 2s, true", took, latest)
	}
}

// TestOneQuestionAtATime: the next question waits for the answer to the previous one.
func TestOneQuestionAtATime(t *testing.T) {
	h := redislink.NewHealth(at(0))
	if !h.Ask(at(1)) || h.Ask(at(2)) {
		t.Error("asked twice, or not at all")
	}
	if h.Answered(at(3)); !h.Ask(at(4)) {
		t.Error("not asked again after the answer")
	}
}
