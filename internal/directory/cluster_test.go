package directory_test

import (
	"testing"

	"orgcast/internal/testkit/redistest"
)

// onCluster is the Cluster that fixtures use while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

// TestOnCluster runs the tests that use Redis on a Redis Cluster too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{})
	t.Cleanup(func() { onCluster = nil })
	for name, test := range map[string]func(*testing.T){
		"Admit":                  TestRedisAdmit,
		"AdmitAllIsAdmit":        TestAdmitAllIsAdmit,
		"ChangesCountAtOnce":     TestRedisChangesCountAtOnce,
		"Claim":                  TestClaim,
		"ClaimLife":              TestClaimLife,
		"ClaimNotUnderstood":     TestClaimNotUnderstood,
		"ObjectsAway":            TestObjectsAway,
		"ObjectsOfOrganizations": TestObjectsOfTwoOrganizations,
		"OneClaimWins":           TestOneClaimWins,
	} {
		t.Run(name, test)
	}
}
