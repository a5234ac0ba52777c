package usage

import (
	"context"
	"time"
)

// Record makes a recorder record at a time, which begins with its first hour.
func Record(ctx context.Context, r *Recorder, now time.Time) {
	if r.hour.IsZero() {
		r.hour = hourOf(now)
	}
	r.record(ctx, now)
}

// ParseShare parses a field of an hour.
func ParseShare(field, text string) (Share, bool) {
	organization, ok := parseField(field)
	share, err := decode(organization, text)
	return share, ok && err == nil
}
