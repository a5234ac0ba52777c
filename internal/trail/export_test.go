package trail

import "unsafe"

// RecordBytes is the size of a record, and ChunkRecords how many of them are allocated together.
const (
	RecordBytes  = unsafe.Sizeof(record{})
	ChunkRecords = chunkRecords
)
