package keyspace_test

import (
	"testing"

	"orgcast/internal/keyspace"
)

// TestSlot compares with answers of CLUSTER KEYSLOT in Redis 7.0, and with the check value of the
// CRC in the Redis Cluster specification.
func TestSlot(t *testing.T) {
	for name, want := range map[string]uint16{
		"123456789":                 0x31c3,
		"":                          0,
		"x":                         16287,
		"{x}y":                      16287,
		"a{x}b{c}":                  16287,
		"{}x":                       10595,
		"{x":                        11068,
		"orgcast:{acme}:group:room": 11304,
	} {
		if got := keyspace.Slot(name); got != want {
			t.Errorf("Slot(%q): got %d, want %d", name, got, want)
		}
	}
}
