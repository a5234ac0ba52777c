package explain

import (
	"fmt"
	"strings"

	"orgcast/internal/trail"
)

// spaced writes a stable name as words.
func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }

// fate says what became of what, which is an event or several, at a connection.
func fate(o trail.Outcome, what, group string) string {
	at := clock(o.At)
	switch o.Cause {
	case trail.CauseHistory:
		return fmt.Sprintf("got %s from the history at %s%s", what, at, gapTold(o, ", after it was told of a gap"))
	case trail.CauseWaiting:
		return "reads slowly: " + what + " still waits for it"
	case trail.LostOldest:
		return fmt.Sprintf("was too slow at %s: its queue was full, so the oldest events in it were dropped%s", at, gapTold(o, ", and it was told of a gap"))
	case trail.LostLatest:
		return fmt.Sprintf("was too slow at %s: its queue was full, so events were dropped for newer ones of the same type", at)
	case trail.LostTooSlow:
		return fmt.Sprintf("was too slow at %s: its queue was full, so it was closed%s", at, ending(o))
	case trail.LostClosing:
		return fmt.Sprintf("was being closed at %s%s", at, ending(o))
	case trail.LostLeft:
		return fmt.Sprintf("left %s at %s, before %s could be sent", group, at, what)
	case trail.LostConsumer:
		return fmt.Sprintf("did not get %s because its consumer kept it back at %s", what, at)
	case trail.LostWrite:
		return fmt.Sprintf("could not be written to at %s%s", at, ending(o))
	case trail.CauseNotReceived:
		return "had joined " + group + " on a node that did not receive " + what + gapTold(o, "; it was told of a gap")
	case trail.CauseDropped:
		return "had joined " + group + " on a node that dropped " + what + gapTold(o, "; it was told of a gap")
	case trail.CauseJoinedLater:
		return fmt.Sprintf("joined %s only at %s%s", group, at, gapTold(o, ", and was told of a gap"))
	case trail.CauseLater:
		return fmt.Sprintf("connected only at %s%s", at, gapTold(o, ", and was told of a gap"))
	case trail.CauseLeftBefore:
		return fmt.Sprintf("had left %s at %s", group, at)
	case trail.CauseNotJoined:
		return "had not joined " + group + "; " + joined(o.Groups)
	case trail.CauseDenied:
		return fmt.Sprintf("was not allowed to join %s at %s (%s)", group, at, o.Reason)
	case trail.CauseEnded:
		return fmt.Sprintf("had ended at %s%s", at, ending(o))
	default:
		return "did not get " + what + ": " + spaced(o.Cause)
	}
}

func gapTold(o trail.Outcome, text string) string {
	if o.ToldGap {
		return text
	}
	return ""
}

// ending says why a connection ended.
func ending(o trail.Outcome) string {
	if o.Reason == "" {
		return ""
	}
	if o.Code == 0 {
		return ": " + spaced(o.Reason)
	}
	return fmt.Sprintf(": %s (code %d)", spaced(o.Reason), o.Code)
}

func joined(groups []string) string {
	if len(groups) == 0 {
		return "it was in no group"
	}
	return "it was in " + strings.Join(groups, ", ")
}

// dropReason says why a node dropped an event.
func dropReason(reason, org, group string) string {
	switch reason {
	case trail.DropRate:
		return fmt.Sprintf("%s published more than --events-per-second or --event-bytes-per-second allows, and %s was paused", org, group)
	case trail.DropIntake:
		return "too many events of " + org + " were waiting on the node"
	case trail.DropRepeated:
		return "it was shown before, under the same idempotency key and another position"
	case trail.DropUnwanted:
		return "no connection on the node was in " + group + " anymore"
	case "foreign_organization":
		return "its organization_id is not " + org
	case "no_organization":
		return "its organization_id is missing or invalid"
	default:
		return "it is malformed (" + reason + ")"
	}
}

// gapReason says why members were told of a gap.
func gapReason(reason string) string {
	switch reason {
	case trail.GapUnread:
		return "the history could not be read"
	case trail.GapIncomplete:
		return "the history no longer had all missed events"
	case trail.GapNotRecorded:
		return "missed events may not have been recorded"
	case trail.GapUnlocated:
		return "it is not known which events were missed"
	case trail.GapHistoryLost:
		return "Redis lost the history"
	case trail.GapRepeated:
		return "an event came twice, and some members may not have seen it"
	case trail.GapIntake:
		return "too many events of the organization were waiting"
	case trail.GapChannelLayer:
		return "events of the Django site's channel layer may have been lost"
	default:
		return spaced(reason)
	}
}
