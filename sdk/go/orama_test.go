package orama

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

func TestArgumentsAreSentAsTheDatabaseTakesThem(t *testing.T) {
	for _, c := range []struct {
		args []any
		want string
	}{
		{nil, "[]"},
		{[]any{nil, true, int64(9007199254740993), 1.5, "a\"b"}, `[null,true,9007199254740993,1.5,"a\"b"]`},
		{[]any{[]byte{0, 255}, []byte{}, []byte(nil)}, "[[0,255],[],null]"},
	} {
		got, err := encodeArgs(c.args)
		if err != nil || got != c.want {
			t.Errorf("%v: %q, %v", c.args, got, err)
		}
	}
	if _, err := encodeArgs([]any{make(chan int)}); err == nil {
		t.Error("a channel was encoded")
	}
}

func TestNumbersOfRowsKeepTheirDigits(t *testing.T) {
	rows, err := decodeRows(json.RawMessage(`[{"id":9007199254740993,"x":1.5,"t":"a","n":null}]`))
	want := []map[string]any{{"id": int64(9007199254740993), "x": 1.5, "t": "a", "n": nil}}
	if err != nil || !reflect.DeepEqual(rows, want) {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestABatchSaysWhatFailed(t *testing.T) {
	results, committed, err := decodeBatch([]byte(`{"committed":true,"results":[
		{"kind":"exec","rows_affected":2,"last_insert_id":7},{"kind":"query","rows":[{"n":1}]}],"failed_index":-1,"error":"","code":""}`))
	if err != nil || !committed || len(results) != 2 || results[0].RowsAffected != 2 || results[0].LastInsertID != 7 {
		t.Fatalf("%v, %v, %v", results, committed, err)
	}
	if rows, err := results[1].Rows(); err != nil || rows[0]["n"] != int64(1) {
		t.Errorf("%v, %v", rows, err)
	}
	var into []struct{ N int }
	if err := results[1].Into(&into); err != nil || into[0].N != 1 {
		t.Errorf("%v, %v", into, err)
	}
	_, committed, err = decodeBatch([]byte(`{"committed":false,"results":[],"failed_index":1,"error":"no such table","code":"INVALID_ARGUMENT"}`))
	var failed *DatabaseError
	if committed || !errors.As(err, &failed) || failed.Index != 1 || failed.Code != "INVALID_ARGUMENT" {
		t.Errorf("%v, %v", committed, err)
	}
	if _, _, err := decodeBatch(nil); err == nil {
		t.Error("no answer is no error")
	}
}

func TestAResponseHasItsBodyAsBytes(t *testing.T) {
	response, err := decodeResponse([]byte(`{"status":200,"headers":{"Content-Type":["text/plain"]},"body":"hi"}`))
	if err != nil || response.Status != 200 || string(response.Body) != "hi" || response.Header("content-type") != "text/plain" {
		t.Errorf("%v, %v", response, err)
	}
	response, err = decodeResponse([]byte(`{"status":200,"headers":{},"body_base64":"/wA="}`))
	if err != nil || string(response.Body) != "\xff\x00" || response.Header("x") != "" {
		t.Errorf("%v, %v", response, err)
	}
	if _, err = decodeResponse([]byte(`{"status":0,"error":"refused"}`)); err == nil || err.Error() != "http: refused" {
		t.Errorf("%v", err)
	}
}

func TestOutsideOfANodeEveryCallFailsAsWithoutServices(t *testing.T) {
	if _, err := Query("SELECT 1"); err == nil {
		t.Error("Query succeeded")
	}
	if _, err := Execute("SELECT 1"); err == nil {
		t.Error("Execute succeeded")
	}
	if _, err := Fetch(Request{URL: "http://example.org"}); err == nil {
		t.Error("Fetch succeeded")
	}
	if err := Publish("t", 1); err == nil {
		t.Error("Publish succeeded")
	}
	if _, err := StoragePut([]byte("a")); err == nil {
		t.Error("StoragePut succeeded")
	}
	if _, ok := Cache.Get("k"); ok {
		t.Error("Cache.Get found something")
	}
	LogInfo("nobody listens")
}
