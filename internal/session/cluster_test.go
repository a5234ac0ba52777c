package session_test

import (
	"testing"

	"orgcast/internal/testkit/redistest"
)

// onCluster is where fixtures live while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

// TestOnCluster has the tests of what goes through Redis run on a Redis Cluster, too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{})
	t.Cleanup(func() { onCluster = nil })
	for name, test := range map[string]func(*testing.T){
		"ConcurrentChanges":      TestRedisStoreConcurrentChanges,
		"GorillaStore":           TestRedisStoreAsGorillaStore,
		"MintResolveSignOut":     TestRedisStoreMintResolveSignOut,
		"Recheck":                TestRedisStoreRecheck,
		"Revocations":            TestRevocations,
		"RevocationsOfMany":      TestRevocationsOfMany,
		"SessionFixation":        TestSessionFixationIsImpossible,
		"SetOrganization":        TestRedisStoreSetOrganization,
		"SaveWithNegativeMaxAge": TestRedisStoreSaveWithNegativeMaxAgeEnds,
	} {
		t.Run(name, test)
	}
}
