package task_test

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
		"Answer":                        TestAnswer,
		"AskIsFoundAgain":               TestAskIsFoundAgain,
		"BusyOrganizationLeavesRoom":    TestBusyOrganizationLeavesRoom,
		"DispatchOnce":                  TestDispatchOnce,
		"EntriesOfOthersPassTheShare":   TestEntriesOfOthersPassTheShareToo,
		"EndIsAllOrNothing":             TestEndIsAllOrNothing,
		"EndedTaskDoesNotRunAgain":      TestEndedTaskDoesNotRunAgain,
		"EventsAreRecorded":             TestEventsAreRecorded,
		"Failures":                      TestFailures,
		"LineIsBoundedInBytes":          TestLineIsBoundedInBytes,
		"LongTaskStaysWithItsWorker":    TestLongTaskStaysWithItsWorker,
		"NoticesThatMayNotGoOut":        TestNoticesThatMayNotGoOut,
		"OrganizationsTakeTurns":        TestOrganizationsTakeTurns,
		"OthersHearOfTheEnd":            TestOthersHearOfTheEnd,
		"PoisonThatKillsWorkers":        TestPoisonThatKillsWorkers,
		"PublishRefuses":                TestPublishRefuses,
		"PythonWorker":                  TestPythonWorker,
		"RefusedEntries":                TestRefusedEntries,
		"RetriesUntilItSucceeds":        TestRetriesUntilItSucceeds,
		"RunTool":                       TestRunTool,
		"StopGivesTasksBack":            TestStopGivesTasksBack,
		"StoreReachesOneOrganization":   TestStoreReachesOneOrganization,
		"TaskAsksAPerson":               TestTaskAsksAPerson,
		"TaskFromStartToEnd":            TestTaskFromStartToEnd,
		"TaskTakenFromSlowWorker":       TestTaskTakenFromSlowWorker,
		"ScriptsHaveToKnowWhereTheyAre": TestScriptsHaveToKnowWhereTheyAre,
	} {
		t.Run(name, test)
	}
}
