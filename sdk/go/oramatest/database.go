package oramatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"orama"
	"orama/internal/host"
	"strconv"
	"strings"
)

// Exec runs a statement in the function's database, as orama.Execute does: a table that the function needs, a row that it finds.
// It fails the test where the statement fails.
func (h *Host) Exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := orama.Execute(sql, args...); err != nil {
		h.t.Fatalf("%v\n%s", err, sql)
	}
}

// Query reads the function's database, as orama.Query does. It fails the test where the statement fails.
func (h *Host) Query(sql string, args ...any) []map[string]any {
	h.t.Helper()
	rows, err := orama.Query(sql, args...)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, sql)
	}
	return rows
}

// runSQL runs a batch in the database, which the first call makes.
func (h *Host) runSQL(statements []host.Statement, isWrite bool) host.Outcome {
	if h.database == nil {
		if host.OpenDatabase == nil {
			message := `this test uses the database: import _ "orama/oramatest/sqlite", then run "go mod tidy"`
			h.t.Error("oramatest: " + message)
			return host.Outcome{Failure: &host.Failure{Index: -1, Code: "UNAVAILABLE", Message: message}}
		}
		opened, err := host.OpenDatabase()
		if err != nil {
			h.t.Errorf("oramatest: the database cannot be opened: %v", err)
			return host.Outcome{Failure: &host.Failure{Index: -1, Code: "INTERNAL", Message: err.Error()}}
		}
		h.database = opened
	}
	if len(statements) == 0 {
		return host.Outcome{IsCommitted: true}
	}
	return h.database.Run(statements, isWrite)
}

// runOne runs the one statement of a call.
func (h *Host) runOne(sql, args string, isExec bool) (host.Result, *host.Failure) {
	if why := checkText("the SQL", sql, sqlMaxBytes); why != nil {
		return host.Result{}, why
	}
	if why := checkText("the argument list", args, argumentsMaxBytes); why != nil {
		return host.Result{}, why
	}
	values, why := arguments(args)
	if why != nil {
		return host.Result{}, why
	}
	outcome := h.runSQL([]host.Statement{{IsExec: isExec, SQL: sql, Args: values}}, isExec)
	if outcome.Failure != nil {
		return host.Result{}, outcome.Failure
	}
	return outcome.Results[0], nil
}

// DBQueryV2 implements host.Host.
func (h node) DBQueryV2(sql, args string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	result, why := h.runOne(sql, args, false)
	rows, reason := result.Rows, host.Failure{}
	if why != nil {
		rows, reason = []byte("[]"), *why
	}
	return encoded(struct {
		Rows  json.RawMessage `json:"rows"`
		Error string          `json:"error"`
		Code  string          `json:"code"`
	}{rows, reason.Message, reason.Code})
}

// DBExecuteV2 implements host.Host.
func (h node) DBExecuteV2(sql, args string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	result, why := h.runOne(sql, args, true)
	reason := host.Failure{}
	if why != nil {
		reason = *why
	}
	return encoded(struct {
		RowsAffected int64  `json:"rows_affected"`
		LastInsertID int64  `json:"last_insert_id"`
		Error        string `json:"error"`
		Code         string `json:"code"`
	}{result.RowsAffected, result.LastInsertID, reason.Message, reason.Code})
}

// DBTransaction implements host.Host.
func (h node) DBTransaction(ops string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	statements, why := transaction(ops)
	if why != nil {
		return encoded(reply{Committed: new(bool), batch: batchReply(nil, host.Outcome{Failure: why})})
	}
	outcome := h.runSQL(statements, true)
	return encoded(reply{Committed: &outcome.IsCommitted, batch: batchReply(statements, outcome)})
}

// DBQueryBatch implements host.Host.
func (h node) DBQueryBatch(ops string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	statements, why := queryBatch(ops)
	if why != nil {
		return encoded(reply{batch: batchReply(nil, host.Outcome{Failure: why})})
	}
	return encoded(reply{batch: batchReply(statements, h.runSQL(statements, false))})
}

// ExecAndPublish implements host.Host.
func (h node) ExecAndPublish(ops, topic, data string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	statements, why := transaction(ops)
	if why == nil && len(statements) > statementsMessageMax {
		message := fmt.Sprintf("there are %d operations, more than the limit of %d beside a message", len(statements), statementsMessageMax)
		why = &host.Failure{Index: -1, Code: "TOO_MANY_STATEMENTS", Message: message}
	}
	if why != nil {
		statements = nil
	}
	var message Message
	if why == nil {
		message, why = h.messageWithSeq(topic, data)
	}
	if why != nil {
		return withMessage(statements, host.Outcome{Failure: why}, 0)
	}
	// As on a node, the message is a row of the transaction.
	own := []host.Statement{
		{IsExec: true, SQL: "CREATE TABLE IF NOT EXISTS _orama_outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, " +
			"data TEXT NOT NULL, depth INTEGER NOT NULL, written_ms INTEGER NOT NULL)"},
		{IsExec: true, SQL: "INSERT INTO _orama_outbox (topic, data, depth, written_ms) VALUES (?, ?, ?, ?)",
			Args: []any{message.Topic, string(message.Data), int64(message.Depth), message.At.UnixMilli()}},
	}
	outcome := h.runSQL(append(own[:2:2], statements...), true)
	seq := int64(0)
	if outcome.Failure != nil && outcome.Failure.Index >= 0 {
		outcome.Failure.Index = max(outcome.Failure.Index-len(own), -1)
	}
	if outcome.IsCommitted {
		seq = outcome.Results[1].LastInsertID
		outcome.Results = outcome.Results[len(own):]
		h.runSQL([]host.Statement{{IsExec: true, SQL: "DELETE FROM _orama_outbox WHERE seq = ?", Args: []any{seq}}}, true)
		message.Data = json.RawMessage(strings.ReplaceAll(string(message.Data), seqMark, strconv.FormatInt(seq, 10)))
		h.store(message)
	}
	return withMessage(statements, outcome, seq)
}

// op is one statement of a batch.
type op struct {
	Kind *string         `json:"kind"`
	SQL  string          `json:"sql"`
	Args json.RawMessage `json:"args"`
}

func transaction(text string) ([]host.Statement, *host.Failure) {
	var given struct {
		Ops []json.RawMessage `json:"ops"`
	}
	if why := operations(text, &given); why != nil {
		return nil, why
	}
	return statementsOf(given.Ops, func(kind string) string {
		if kind == "" {
			return `the field kind is missing: it is "exec" or "query"`
		}
		return ""
	})
}

func queryBatch(text string) ([]host.Statement, *host.Failure) {
	var given struct {
		Ops         []json.RawMessage `json:"ops"`
		Consistency string            `json:"consistency"`
		CacheTTL    int64             `json:"cache_ttl"`
	}
	if why := operations(text, &given); why != nil {
		return nil, why
	}
	switch {
	case given.Consistency != "" && given.Consistency != "weak" && given.Consistency != "none" && given.Consistency != "strong":
		return nil, host.Invalid("the operations are not valid: unknown variant `" + given.Consistency +
			"`, expected one of `weak`, `none`, `strong`")
	case given.CacheTTL > 0 && given.Consistency == "strong":
		return nil, host.Invalid(`cache_ttl cannot be combined with the consistency "strong"`)
	case given.CacheTTL > readsKeptMaxSeconds:
		return nil, host.Invalid(fmt.Sprintf("cache_ttl is %d seconds, more than the limit of %d", given.CacheTTL, readsKeptMaxSeconds))
	}
	return statementsOf(given.Ops, func(kind string) string {
		if kind == "exec" {
			return `the field kind is "exec", but a batch of queries can contain only "query"`
		}
		return ""
	})
}

func operations(text string, given any) *host.Failure {
	if why := checkText("the operation list", text, argumentsMaxBytes); why != nil {
		return why
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(given); err != nil {
		return host.Invalid("the operations are not valid: " + err.Error())
	}
	return nil
}

// statementsOf reads statements; wrongKind says what is wrong with a kind, if anything.
func statementsOf(ops []json.RawMessage, wrongKind func(kind string) string) ([]host.Statement, *host.Failure) {
	if len(ops) > statementsMax {
		message := fmt.Sprintf("there are %d operations, more than the limit of %d", len(ops), statementsMax)
		return nil, &host.Failure{Index: -1, Code: "TOO_MANY_STATEMENTS", Message: message}
	}
	statements := make([]host.Statement, len(ops))
	for index, raw := range ops {
		read, why := statementOf(raw, wrongKind)
		if why != nil {
			why.Message = fmt.Sprintf("ops[%d]: %s", index, why.Message)
			return nil, why.At(index)
		}
		statements[index] = read
	}
	return statements, nil
}

func statementOf(raw json.RawMessage, wrongKind func(kind string) string) (host.Statement, *host.Failure) {
	var given op
	if err := json.Unmarshal(raw, &given); err != nil {
		return host.Statement{}, host.Invalid(err.Error())
	}
	kind := ""
	if given.Kind != nil {
		kind = *given.Kind
	}
	if wrong := wrongKind(kind); wrong != "" {
		return host.Statement{}, host.Invalid(wrong)
	}
	if why := checkSize("the SQL", given.SQL, sqlMaxBytes); why != nil {
		return host.Statement{}, why
	}
	values, why := arguments(string(given.Args))
	return host.Statement{IsExec: kind == "exec", SQL: given.SQL, Args: values}, why
}

// arguments reads the JSON array of a statement's arguments. An empty text means none, and so does null.
func arguments(text string) ([]any, *host.Failure) {
	if text == "" {
		return nil, nil
	}
	var given []json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return nil, host.Invalid("the arguments are not a JSON array: " + err.Error())
	}
	if len(given) > argumentsMax {
		return nil, host.TooLarge(fmt.Sprintf("there are %d arguments, more than the limit of %d", len(given), argumentsMax))
	}
	values := make([]any, len(given))
	for index, raw := range given {
		value, wrong := argument(bytes.TrimSpace(raw))
		if wrong != "" {
			return nil, host.Invalid(fmt.Sprintf("args[%d]: %s", index, wrong))
		}
		values[index] = value
	}
	return values, nil
}

// argument is one value of SQL, or what is wrong with it.
func argument(raw []byte) (value any, wrong string) {
	switch raw[0] {
	case 'n':
		return nil, ""
	case 't':
		return int64(1), ""
	case 'f':
		return int64(0), ""
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, "the string contains an escape sequence that is not a character"
		}
		return text, ""
	case '[':
		var numbers []uint8Number
		if err := json.Unmarshal(raw, &numbers); err != nil {
			return nil, "an array is a blob; its elements must be integers from 0 to 255"
		}
		blob := make([]byte, len(numbers))
		for at, number := range numbers {
			blob[at] = byte(number)
		}
		return blob, ""
	case '{':
		return nil, "an object is not an SQL value; pass its JSON as a string"
	}
	if bytes.ContainsAny(raw, ".eE") {
		real, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || math.IsInf(real, 0) {
			return nil, "the number does not fit a 64-bit floating point number"
		}
		return real, ""
	}
	whole, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return nil, "the integer does not fit 64 bits; pass it as a string"
	}
	return whole, ""
}

// uint8Number is a byte that encoding/json reads as a number; of a []byte it would read base64 text.
type uint8Number uint8

// reply is the answer of db_transaction, and without committed that of db_query_batch.
type reply struct {
	Seq          *int64  `json:"seq,omitempty"`
	Published    *bool   `json:"published,omitempty"`
	PublishError *string `json:"publish_error,omitempty"`
	Committed    *bool   `json:"committed,omitempty"`
	batch
}

type batch struct {
	Results     []any  `json:"results"`
	FailedIndex int    `json:"failed_index"`
	Error       string `json:"error"`
	Code        string `json:"code"`
}

type execReply struct {
	Kind         string `json:"kind"`
	RowsAffected int64  `json:"rows_affected"`
	LastInsertID int64  `json:"last_insert_id"`
	Error        string `json:"error"`
}

type queryReply struct {
	Kind  string          `json:"kind"`
	Rows  json.RawMessage `json:"rows"`
	Error string          `json:"error"`
}

func withMessage(statements []host.Statement, outcome host.Outcome, seq int64) []byte {
	none := ""
	return encoded(reply{&seq, &outcome.IsCommitted, &none, &outcome.IsCommitted, batchReply(statements, outcome)})
}

// batchReply has one result for each statement up to the one that failed. One before it that was undone, or not run, has no
// effect and no error.
func batchReply(statements []host.Statement, outcome host.Outcome) batch {
	told := batch{Results: []any{}, FailedIndex: -1}
	reported := len(outcome.Results)
	if failure := outcome.Failure; failure != nil {
		told.FailedIndex, told.Error, told.Code = failure.Index, failure.Message, failure.Code
		if failure.Index >= 0 {
			reported = failure.Index + 1
		}
	}
	results := outcome.Results
	for index, statement := range statements[:min(reported, len(statements))] {
		wrong := ""
		if index == told.FailedIndex {
			wrong = told.Error
		}
		result := host.Result{IsExec: statement.IsExec, Rows: []byte("[]")}
		if len(results) > 0 && results[0].IsExec == statement.IsExec {
			result, results = results[0], results[1:]
		}
		if statement.IsExec {
			told.Results = append(told.Results, execReply{"exec", result.RowsAffected, result.LastInsertID, wrong})
		} else {
			told.Results = append(told.Results, queryReply{"query", result.Rows, wrong})
		}
	}
	return told
}

// encoded writes an answer.
func encoded(answer any) []byte {
	text, err := json.Marshal(answer)
	if err != nil {
		panic("oramatest: an answer has no JSON: " + err.Error())
	}
	return text
}
