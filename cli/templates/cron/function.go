// A job by the clock: function.yaml has its schedule.
package main

import (
	"orama"
	"time"
)

const table = "CREATE TABLE IF NOT EXISTS slots (slot TEXT PRIMARY KEY)"

func main() { orama.Handle(run) }

// run does the work of one slot. A run may be repeated after a crash, so that the slot is the name of the work.
func run(scheduled orama.Scheduled) (any, error) {
	slot := scheduled.ScheduledAt.UTC().Format(time.RFC3339)
	results, _, err := orama.Transaction(
		orama.Exec(table),
		orama.Exec("INSERT INTO slots (slot) VALUES (?) ON CONFLICT (slot) DO NOTHING", slot),
	)
	if err != nil {
		return nil, err
	}
	isNew := results[1].RowsAffected == 1
	orama.LogInfo("ran for the slot " + slot)
	return map[string]any{"slot": slot, "new": isNew}, nil
}
