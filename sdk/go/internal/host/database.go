package host

// Database runs the SQL of a Host. Package oramatest/sqlite registers one; it is a package of its own so that tests without a
// database need no driver.
type Database interface {
	// Run runs every exec in order and all or nothing, then every query in order. A batch that may only read has isWrite false.
	Run(statements []Statement, isWrite bool) Outcome
	// Close frees it.
	Close() error
}

// Statement is one SQL statement. Its arguments are nil, int64, float64, string or []byte.
type Statement struct {
	IsExec bool
	SQL    string
	Args   []any
}

// Outcome is what a batch did. Its results are those of the statements that succeeded and were not undone, in the order of the
// batch.
type Outcome struct {
	IsCommitted bool
	Results     []Result
	Failure     *Failure
}

// Result is what one statement did.
type Result struct {
	IsExec       bool
	RowsAffected int64
	LastInsertID int64
	// Rows is the JSON of a query's rows.
	Rows []byte
}

// Failure says why a call did not do what it was asked.
type Failure struct {
	// Index is the statement's; -1 for a batch that failed as a whole.
	Index int
	// Code is one of db_transaction's.
	Code string
	// Message is for people.
	Message string
}

// Invalid is a failure of the caller's.
func Invalid(message string) *Failure {
	return &Failure{Index: -1, Code: "INVALID_ARGUMENT", Message: message}
}

// TooLarge is the failure of what exceeds a limit.
func TooLarge(message string) *Failure {
	return &Failure{Index: -1, Code: "PAYLOAD_TOO_LARGE", Message: message}
}

// At is the failure as one of a statement.
func (f *Failure) At(index int) *Failure {
	return &Failure{Index: index, Code: f.Code, Message: f.Message}
}

// OpenDatabase opens an empty database; nil as long as no package has registered one.
var OpenDatabase func() (Database, error)
