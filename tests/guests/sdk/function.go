// Command sdk calls every function of the Go SDK once and answers with what came of it.
package main

import (
	"encoding/json"
	"errors"
	"orama"
	"time"
)

type input struct {
	URL string `json:"url"` // what is fetched
}

func main() { orama.Handle(run) }

func run(in input) (map[string]any, error) {
	if in.URL == "" {
		return nil, errors.New("no url was given")
	}
	orama.LogInfo("info")
	orama.LogError("error")
	orama.Cache.Set("k", []byte("value"), time.Minute)
	value, hit := orama.Cache.Get("k")
	_, miss := orama.Cache.Get("nothing")
	stored, err := orama.StoragePut([]byte("an object\x00\xff"))
	if err != nil {
		return nil, err
	}
	object, found := orama.StorageGet(stored)
	_, unknown := orama.StorageGet("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
	response, err := orama.Fetch(orama.Request{
		Method:  "POST",
		URL:     in.URL,
		Headers: map[string]string{"X-From": "sdk"},
		Body:    []byte("body"),
	})
	if err != nil {
		return nil, err
	}
	_, refused := orama.Fetch(orama.Request{URL: "ftp://example.org/"})
	called, err := calls()
	if err != nil {
		return nil, err
	}
	database, err := database()
	return map[string]any{
		"calls": called,
		"context": []string{
			orama.RequestID(), orama.CallerWallet(), orama.CallerSubject(), orama.CallerClaim("role"),
			orama.Env("MY_VAR"), orama.Env("MISSING"), orama.Secret("S"), orama.Secret("MISSING"),
		},
		"cache": []any{
			string(value), hit, miss, orama.Cache.Delete("k"), orama.Cache.Delete("k"),
			orama.Cache.Incr("n"), orama.Cache.IncrBy("n", -5),
		},
		"storage":   []any{len(object), found, unknown},
		"fetch":     []any{response.Status, response.Header("x-stand"), string(response.Body), refused != nil},
		"published": orama.Publish("topic", json.RawMessage(`{"a": 1}`)) == nil,
		"database":  database,
	}, err
}

func calls() ([]any, error) {
	_, err := orama.Invoke("nobody", []byte("input"))
	var failed *orama.InvokeError
	if !errors.As(err, &failed) {
		return nil, errors.New("a function that is not there was invoked")
	}
	_, seq, committed, err := orama.ExecuteAndPublish("topic", "number {{seq}}", orama.Exec("CREATE TABLE IF NOT EXISTS s (n)"))
	return []any{
		failed.Status, failed.Code, failed.RequestID, orama.InvokeAsync("nobody", 1) != nil,
		orama.PublishLater("topic", 1, time.Hour) == nil,
		orama.PublishBatch(orama.Message{Topic: "topic", Data: 1}, orama.Message{Topic: "topic", Data: nil}) == nil,
		orama.PublishBatch(orama.Message{Data: 1}) != nil, seq, committed,
	}, err
}

func database() (map[string]any, error) {
	if _, err := orama.Execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT, x REAL, b BLOB)"); err != nil {
		return nil, err
	}
	_, err := orama.Execute("DELETE FROM t")
	if err != nil {
		return nil, err
	}
	inserted, err := orama.Execute("INSERT INTO t VALUES (?, ?, ?, ?)", int64(9007199254740993), "a'b", 1.5, []byte{0, 255})
	if err != nil {
		return nil, err
	}
	rows, err := orama.Query("SELECT id, text, x, hex(b) AS b, NULL AS n FROM t WHERE text = ?", "a'b")
	if err != nil {
		return nil, err
	}
	var typed []struct {
		ID   int64   `json:"id"`
		Text string  `json:"text"`
		X    float64 `json:"x"`
	}
	if err := orama.QueryInto(&typed, "SELECT * FROM t"); err != nil {
		return nil, err
	}
	_, wrong := orama.Query("SELECT x FROM nowhere")
	results, committed, err := orama.Transaction(
		orama.Exec("INSERT INTO t (id) VALUES (1)"),
		orama.Select("SELECT count(*) AS n FROM t"),
	)
	if err != nil {
		return nil, err
	}
	counted, err := results[1].Rows()
	if err != nil {
		return nil, err
	}
	_, undone, failed := orama.Transaction(orama.Exec("DELETE FROM t"), orama.Exec("INSERT INTO nowhere VALUES (1)"))
	var why *orama.DatabaseError
	if !errors.As(failed, &why) {
		return nil, errors.New("a transaction on a table that is not there went well")
	}
	batch, err := orama.QueryBatch(orama.Weak, orama.Select("SELECT count(*) AS n FROM t"), orama.Select("SELECT ? AS s", "x"))
	if err != nil {
		return nil, err
	}
	left, err := batch[0].Rows()
	if err != nil {
		return nil, err
	}
	_, isWhole := rows[0]["id"].(int64)
	return map[string]any{
		"inserted":    inserted.RowsAffected,
		"insert_id":   inserted.LastInsertID == 9007199254740993,
		"rows":        rows,
		"is_whole":    isWhole,
		"typed":       typed[0].ID == 9007199254740993 && typed[0].Text == "a'b" && typed[0].X == 1.5,
		"wrong":       wrong.Error(),
		"transaction": []any{committed, results[0].RowsAffected, counted},
		"undone":      []any{undone, why.Index, why.Code},
		"left":        left,
	}, nil
}
