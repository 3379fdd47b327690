// Command report runs every five minutes: it counts what was ordered since its last run, keeps the count, and publishes it.
package main

import (
	"orama"
	"time"
)

var tables = []orama.Statement{
	orama.Exec("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, reported TEXT)"),
	orama.Exec("CREATE TABLE IF NOT EXISTS reports (slot TEXT PRIMARY KEY, orders INTEGER NOT NULL, amount INTEGER NOT NULL)"),
}

func main() { orama.Handle(report) }

func report(run orama.Scheduled) (any, error) {
	slot := run.ScheduledAt.UTC().Format(time.RFC3339)
	// A run may be repeated after a crash. The slot is its name, so that its second run finds the work done and publishes the same.
	statements := append(tables[:len(tables):len(tables)],
		orama.Exec(`UPDATE orders SET reported = ? WHERE reported IS NULL
			AND NOT EXISTS (SELECT 1 FROM reports WHERE slot = ?)`, slot, slot),
		orama.Exec(`INSERT INTO reports (slot, orders, amount)
			SELECT ?, count(*), coalesce(sum(amount), 0) FROM orders WHERE reported = ?
			ON CONFLICT (slot) DO NOTHING`, slot, slot),
	)
	message := map[string]any{"slot": slot, "number": "{{seq}}"}
	if _, _, _, err := orama.ExecuteAndPublish("reports", message, statements...); err != nil {
		return nil, err
	}
	rows, err := orama.Query("SELECT orders, amount FROM reports WHERE slot = ?", slot)
	if err != nil {
		return nil, err
	}
	orama.LogInfo("reported " + slot)
	return rows, nil
}
