package main

import (
	"orama"
	"orama/oramatest"
	"testing"
	"time"

	// The database of the tests: `go mod tidy` fetches its driver.
	_ "orama/oramatest/sqlite"
)

func TestASlotIsWorkedOnce(t *testing.T) {
	host := oramatest.New(t)
	slot := orama.Scheduled{Schedule: "*/5 * * * *", ScheduledAt: time.Date(2030, 1, 1, 12, 5, 0, 0, time.UTC)}
	for _, isNew := range []bool{true, false} {
		var out struct {
			New bool `json:"new"`
		}
		if err := host.Run(main, slot).Decode(&out); err != nil || out.New != isNew {
			t.Errorf("new: %v, %v", out.New, err)
		}
	}
	if rows := host.Query("SELECT slot FROM slots"); len(rows) != 1 || rows[0]["slot"] != "2030-01-01T12:05:00Z" {
		t.Errorf("%v", rows)
	}
}
