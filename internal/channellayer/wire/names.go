package wire

import (
	"hash/crc32"
	"strings"
)

// MaxName is the longest name of a group or channel, in bytes.
const MaxName = 99

// PubSubChannel returns the Redis channel on which the pub/sub layer publishes a group's events.
func PubSubChannel(prefix, group string) string { return GroupChannels(prefix) + group }

// GroupChannels returns what the Redis channels of all groups begin with.
func GroupChannels(prefix string) string { return prefix + "__group__" }

// GroupKey returns the sorted set in which the core layer keeps the members of a group.
func GroupKey(prefix, group string) string { return prefix + ":group:" + group }

// QueueKey returns the sorted set from which a process of the core layer reads. queue is what the
// process's channel names have in common, the exclamation mark included.
func QueueKey(prefix, queue string) string { return prefix + queue }

// ValidGroup reports whether the core layer accepts a group name: 1 to [MaxName] ASCII letters,
// digits and any of - _ and the dot. Channels itself also accepts digits of other scripts and a
// line break at the end. No group of the gateway has such a name.
func ValidGroup(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// CutChannel cuts a channel name after its exclamation mark. queue belongs to a process and tag to
// one of its consumers. A channel without exclamation mark has no tag. ok is false if the name is
// not valid.
func CutChannel(name string) (queue, tag string, ok bool) {
	if len(name) > MaxName {
		return "", "", false
	}
	process, tag, marked := strings.Cut(name, "!")
	if !ValidGroup(process) || tag != "" && !ValidGroup(tag) {
		return "", "", false
	}
	if marked {
		process += "!"
	}
	return process, tag, true
}

// hostBits is how many bits of a checksum decide about a name's server.
const hostBits = 12

// Host returns which of so many servers a name belongs to, counted from 0. In the pub/sub layer, the
// name is that of the Redis channel. In the core layer, it is the name of a group, or what the
// channel names of a process have in common, the exclamation mark included; both without prefix. See
// consistent_hash in channels_redis/utils.py.
func Host(name string, servers int) int {
	share := float64(1<<hostBits) / float64(servers) // as Python divides
	return int(float64(crc32.ChecksumIEEE([]byte(name))&(1<<hostBits-1)) / share)
}
