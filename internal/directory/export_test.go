package directory

import (
	"time"

	"orgcast/internal/gather"
)

// DecodeObject and EncodeObject convert the text of an object.
var (
	DecodeObject = decodeObject
	EncodeObject = encodeObject
)

// Together has handshakes wait for each other for so long, and returns how many questions wait.
func (d *Redis) Together(patience time.Duration) (waiting func() int) {
	d.together = gather.New(gather.Options[Membership, Admission]{Call: d.admitAll, Most: maxTogether, Patience: patience})
	return d.together.Waiting
}
