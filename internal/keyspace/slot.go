package keyspace

import "strings"

// Slots is the number of slots in every Redis Cluster.
const Slots = 16384

// Slot returns the slot of a name in a Redis Cluster. It is the CRC16 of the text between the first
// opening brace and the next closing one, or of the whole name if there is no such text (Redis
// Cluster specification, "Hash tags").
func Slot(name string) uint16 {
	if _, rest, ok := strings.Cut(name, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			name = tag
		}
	}
	// CRC16 of XMODEM: polynomial 0x1021, initial value 0.
	var crc uint16
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % Slots
}
