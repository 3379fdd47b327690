package main

import (
	"encoding/json"
	"fmt"
	"math"
	"orama"
	"strings"
	"time"
)

// exec notes what an exec changed, and its error. The last insert of one that changed nothing may be an earlier case's.
func (s *saw) exec(sql string, args ...any) {
	result, err := orama.Execute(sql, args...)
	if result.RowsAffected == 0 {
		result.LastInsertID = 0
	}
	s.add(result.RowsAffected, result.LastInsertID, err)
}

// query notes the rows of a query, and its error.
func (s *saw) query(sql string, args ...any) {
	rows, err := orama.Query(sql, args...)
	s.add(rows, err)
}

// batch notes the results of several statements.
func (s *saw) batch(results []orama.StatementResult, err error) {
	for _, result := range results {
		rows, none := result.Rows()
		if none != nil {
			rows = nil
		}
		s.add([]any{result.RowsAffected, result.LastInsertID, rows})
	}
	s.add(err)
}

func (s *saw) transaction(statements ...orama.Statement) {
	results, committed, err := orama.Transaction(statements...)
	s.add(committed)
	s.batch(results, err)
}

var databaseCases = map[string]func(*saw){
	"db-values": func(s *saw) {
		s.exec("CREATE TABLE vals (k INTEGER PRIMARY KEY, v)")
		for k, value := range []any{
			nil, 0, -1, true, false, int64(9007199254740993), int64(math.MaxInt64), int64(math.MinInt64), 0.1, -2.5, 3.0, 1e300,
			"", "plain", "quote \" backslash \\ line\nend", "zero\x00byte", "äöü 語 🎈 <&>\u2028", []byte{}, []byte{0, 1, 254, 255},
			[]byte(nil), uint64(math.MaxInt64),
		} {
			s.exec("INSERT INTO vals (k, v) VALUES (?, ?)", k, value)
			s.query("SELECT v, typeof(v) AS t FROM vals WHERE k = ?", k)
		}
		var typed []struct {
			V json.RawMessage `json:"v"`
		}
		s.add(orama.QueryInto(&typed, "SELECT v FROM vals WHERE k = 5"), string(typed[0].V))
	},
	"db-expressions": func(s *saw) {
		s.query("SELECT 1 + 1 AS sum, 1.5 AS half, NULL AS missing, 'x' AS word, x'ff' AS bytes, 3 > 2 AS yes")
		s.query("SELECT 9e999 AS r, -9e999 AS s, 1e300 AS big, 0.1 + 0.2 AS sum, 3.0 AS whole, 1e15 AS e, 1e16 AS f, -0.0 AS z")
		s.query("SELECT CAST(x'61ff62' AS TEXT) AS t, CAST(x'610062' AS TEXT) AS u")
		s.query("SELECT 1 AS x, 2 AS x, 3 AS x")
		s.query(`SELECT 1 AS "a""b", 'single' AS q, "double" AS d`)
		s.query("SELECT NULL AS a, x'ff00' AS b UNION ALL SELECT x'00', 'text' UNION ALL SELECT 1, 1.0")
		s.query("SELECT json_extract('{\"a\":[1,2]}', '$.a[1]') AS j, json_object('k', 1) AS o")
		s.query("SELECT value AS v FROM json_each('[2,3,1]') ORDER BY value DESC")
		s.query("SELECT 'a' LIKE 'A' AS l, 'a' GLOB 'A' AS g, soundex('Robert') AS s")
	},
	"db-functions": func(s *saw) {
		for _, call := range []string{
			"sqrt(4)", "pow(2, 3)", "pi()", "ceil(1.5)", "mod(7, 3)", "base64('a')", "uuid()", "load_extension('x')", "readfile('x')",
			"fts3_tokenizer('simple')", "sqlite_log(1, 'x')", "edit('x')", "upper('a')", "printf('%d', 1)", "concat('a', 'b')",
			"string_agg('a', ',')", "group_concat('a')", "iif(1, 2, 3)", "unhex('41')", "octet_length('ä')", "median(1)",
			"percentile(1, 50)", "regexp('a', 'b')", "generate_series(1)", "random() IS NOT NULL", "sha3('a')", "decimal('1')",
			"ieee754(1.0)", "likelihood(1, 0.5)", "sqlite_offset(1)", "subtype(1)", "timediff('2000-01-02', '2000-01-01')",
			"length(hex(randomblob(8)))", "jsonb('1') IS NOT NULL", "json_pretty('[1]')", "json_group_array(1)", "unistr('a')",
		} {
			s.query("SELECT " + call + " AS v")
		}
	},
	"db-types": func(s *saw) {
		s.exec("CREATE TABLE types (b BOOLEAN, d DATETIME, e DATE, j JSON, r REAL, i INTEGER, x)")
		s.exec("INSERT INTO types VALUES (7, 1700000000, '2026-11-22 23:34:11', '[1]', 3, 1.0, 3.0)")
		s.exec("INSERT INTO types VALUES (?, ?, ?, ?, ?, ?, ?)", true, "no date", []byte("x"), "x'41'", 9, "12", "12")
		s.query("SELECT * FROM types")
		s.exec("CREATE TABLE strict (a INT, b TEXT) STRICT")
		s.exec("INSERT INTO strict VALUES ('x', 1)")
	},
	"db-arguments": func(s *saw) {
		s.query("SELECT ?2 AS b, ?1 AS a, ?2 AS c", 1, "x'42'")
		s.query("SELECT :a AS a, @b AS b, :a AS c", 1, "two")
		for _, sql := range []string{"SELECT ?3", "SELECT ?1, ?", "SELECT :a, :b, :c", "SELECT ?0", "SELECT ?32767"} {
			s.query(sql, 1)
		}
		s.query("SELECT ?")
		s.query("SELECT 1", 1)
		s.query("SELECT ? AS v", map[string]any{"a": 1})
		s.query("SELECT ? AS v, ? AS w", 1, []any{1, 2, 255})
		s.query("SELECT ? AS v", []any{1, 256})
		s.query("SELECT ? AS v", []any{"a"})
		s.query("SELECT ? AS v", uint64(math.MaxUint64))
		s.query("SELECT ? AS v", json.RawMessage("1e400"))
		s.query("SELECT ? AS v", math.NaN())
		s.exec("INSERT INTO nowhere VALUES (?)", map[string]any{})
		s.transaction(orama.Exec("CREATE TABLE args (x)"), orama.Exec("INSERT INTO args VALUES (?)", map[string]any{}))
		s.query("SELECT * FROM args")
	},
	"db-counts": func(s *saw) {
		s.transaction(
			orama.Exec("CREATE TABLE counts (id INTEGER PRIMARY KEY, v TEXT)"),
			orama.Exec("INSERT INTO counts (id, v) VALUES (7, 'a'), (8, 'b'), (9, 'c')"),
			orama.Exec("UPDATE counts SET v = 'x' WHERE id > 7"),
			orama.Exec("UPDATE counts SET v = 'y' WHERE id > 100"),
			orama.Exec("DELETE FROM counts WHERE id = 9"),
			orama.Exec("INSERT INTO counts (v) VALUES ('d') RETURNING id"),
			orama.Select("SELECT last_insert_rowid() AS id, changes() AS n FROM counts LIMIT 1"),
		)
		s.exec("UPDATE counts SET v = 'z'")
		s.exec("SELECT 1")
		s.exec("INSERT INTO counts (id, v) VALUES (8, 'again') ON CONFLICT (id) DO UPDATE SET v = excluded.v")
		s.exec("DROP TABLE counts")
	},
	"db-batches": func(s *saw) {
		s.exec("CREATE TABLE batch (id INTEGER PRIMARY KEY)")
		s.transaction(
			orama.Exec("INSERT INTO batch VALUES (1)"),
			orama.Select("SELECT * FROM batch"),
			orama.Exec("INSERT INTO batch VALUES (1)"),
			orama.Exec("INSERT INTO batch VALUES (2)"),
		)
		s.transaction(orama.Exec("INSERT INTO batch VALUES (10)"), orama.Exec("INSERT OR FAIL INTO batch VALUES (1), (2), (1)"))
		s.transaction(orama.Exec("INSERT INTO batch VALUES (10)"), orama.Exec("INSERT OR ROLLBACK INTO batch VALUES (1), (1)"))
		s.query("SELECT * FROM batch")
		s.transaction(
			orama.Select("SELECT count(*) AS n FROM later"),
			orama.Exec("CREATE TABLE later (x)"),
			orama.Select("SELECT max(x) AS m FROM later"),
			orama.Exec("INSERT INTO later VALUES (5)"),
		)
		s.transaction(
			orama.Exec("INSERT INTO later VALUES (6)"),
			orama.Select("SELECT 1 AS one"),
			orama.Select("SELECT * FROM missing"),
			orama.Exec("INSERT INTO later VALUES (7)"),
			orama.Select("SELECT 2 AS two"),
		)
		s.query("SELECT * FROM later")
		s.transaction()
		s.batch(orama.QueryBatch(orama.Weak))
		for _, consistency := range []orama.Consistency{orama.Weak, orama.None, orama.Strong} {
			s.batch(orama.QueryBatch(consistency, orama.Select("SELECT * FROM later"), orama.Select("SELECT ? AS v", "x")))
		}
		s.batch(orama.QueryBatch(orama.Weak, orama.Select("SELECT 1 AS x"), orama.Select("SELEC 2"), orama.Select("SELECT 3")))
		s.batch(orama.QueryBatch(orama.Weak, orama.Exec("DELETE FROM later")))
		s.batch(orama.QueryBatch(orama.Weak, orama.Select("DELETE FROM later")))
		s.batch(orama.QueryBatchCached(time.Second, orama.Select("SELECT count(*) AS n FROM later")))
		s.batch(orama.QueryBatchCached(2*time.Hour, orama.Select("SELECT count(*) AS n FROM later")))
		s.batch(orama.QueryBatchCached(0, orama.Select("SELECT count(*) AS n FROM later")))
	},
	"db-wrong": func(s *saw) {
		s.exec("CREATE TABLE wrong (x UNIQUE NOT NULL CHECK (x > 0))")
		for _, sql := range []string{
			"SELEC 1", "SELECT * FROM missing", "SELECT missing FROM wrong", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE wrong",
			"SELECT 1; SELEC 2", "", " ", "-- a comment", ";", ";SELECT 1", "SELECT 1\x00", "SELECT 'open", "SELECT 1 AS x;",
			"SELECT 1 AS x ; ", "  SELECT 1 AS x -- ; SELECT 2", "SELECT 1 AS x; /* c */", "SELECT \xff", "SELECT (", "EXPLAIN SELECT",
		} {
			s.query(sql)
		}
		for _, sql := range []string{
			"INSERT INTO wrong VALUES (NULL)", "INSERT INTO wrong VALUES (-1)", "INSERT INTO wrong VALUES (1), (1)",
			"INSERT INTO wrong VALUES (1, 2)", "CREATE TABLE wrong (y)", "DROP TABLE missing", "SELECT raise(abort, 'x')",
		} {
			s.exec(sql)
		}
		for _, sql := range []string{
			"INSERT INTO wrong VALUES (1)", "INSERT INTO wrong VALUES (1) RETURNING x", "DROP TABLE wrong", "CREATE TABLE u (x)",
			"WITH one AS (SELECT 1) INSERT INTO wrong SELECT * FROM one",
		} {
			s.query(sql)
		}
		s.query("SELECT * FROM wrong")
	},
	"db-refused": func(s *saw) {
		s.exec("CREATE TABLE refused (x)")
		for _, sql := range []string{
			"ATTACH 'other.db' AS other", "ATTACH ':memory:' AS other", "DETACH main", "VACUUM", "VACUUM INTO 'copy.db'", "BEGIN",
			"BEGIN IMMEDIATE", "COMMIT", "END", "ROLLBACK", "SAVEPOINT s", "RELEASE s", "SELECT load_extension('x.so')",
			"PRAGMA journal_mode = DELETE", "PRAGMA synchronous = OFF", "PRAGMA foreign_keys = OFF", "PRAGMA writable_schema = ON",
			"PRAGMA max_page_count = 1000000000", "PRAGMA cache_size = 100000000", "PRAGMA query_only = ON",
			"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA database_list",
			"SELECT * FROM pragma_database_list", "PRAGMA user_version = 3", "CREATE TEMP TABLE hidden (x)",
			"CREATE TEMP VIEW hidden AS SELECT 1", "CREATE TABLE temp.hidden (x)", "CREATE VIRTUAL TABLE temp.hidden USING fts5(x)",
			"CREATE TEMP TRIGGER hidden AFTER INSERT ON refused BEGIN SELECT 1; END",
			"INSERT INTO sqlite_schema VALUES ('table', 'u', 'u', 0, 'CREATE TABLE u (x)')",
			"UPDATE sqlite_schema SET sql = 'CREATE TABLE t (y)'", "DELETE FROM sqlite_master",
			"CREATE VIRTUAL TABLE old USING fts4 (x)", "CREATE VIRTUAL TABLE c USING csv (x)", "PRAGMA nonsense",
		} {
			s.exec(sql)
			s.query(sql)
		}
		s.query("SELECT * FROM refused")
	},
	"db-allowed": func(s *saw) {
		for _, sql := range []string{
			"CREATE TABLE legal (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, up TEXT AS (upper(name)))",
			"CREATE INDEX i ON legal (lower(name))",
			"CREATE TABLE history (what TEXT, id INTEGER REFERENCES legal (id))",
			"CREATE TRIGGER made AFTER INSERT ON legal BEGIN INSERT INTO history VALUES ('made', new.id); END",
			"CREATE VIEW v AS SELECT name FROM legal",
			"INSERT INTO legal (name) VALUES ('a') ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
			"ALTER TABLE legal ADD COLUMN more",
			"ALTER TABLE legal RENAME COLUMN more TO other",
			"CREATE VIRTUAL TABLE words USING fts5 (text)",
			"INSERT INTO words VALUES ('the quick brown fox')",
			"CREATE VIRTUAL TABLE places USING rtree (id, x0, x1)",
			"INSERT INTO places VALUES (1, 0.0, 2.0)",
			"INSERT INTO legal (name) VALUES ('b')",
			"INSERT INTO legal (name) VALUES ('a')",
			"INSERT INTO history VALUES ('no such', 99)",
			"DELETE FROM words_data",
			"ANALYZE",
			"REINDEX",
			"DROP VIEW v",
			"DROP TABLE places",
			"CREATE TABLE again (x)",
			"CREATE TRIGGER again AFTER INSERT ON again BEGIN INSERT INTO again VALUES (new.x + 1); END",
			"INSERT INTO again VALUES (1)",
		} {
			s.exec(sql)
		}
		for _, sql := range []string{
			"SELECT text FROM words WHERE words MATCH 'quick'",
			"SELECT highlight(words, 0, '[', ']') AS h FROM words WHERE words MATCH 'brown'",
			"SELECT up FROM legal ORDER BY id",
			"SELECT name FROM pragma_table_info('history')",
			"PRAGMA table_info(legal)",
			"PRAGMA user_version",
			"PRAGMA encoding",
			"PRAGMA foreign_key_check",
			"SELECT seq FROM sqlite_sequence WHERE name = 'legal'",
			"SELECT count(*) AS n FROM again",
			"SELECT * FROM legal",
		} {
			s.query(sql)
		}
	},
	"db-schema": func(s *saw) {
		s.exec("CREATE TABLE changing (x)")
		s.exec("INSERT INTO changing VALUES (0)")
		for _, column := range []string{"a", "b"} {
			s.query("SELECT * FROM changing")
			s.transaction(orama.Exec("ALTER TABLE changing ADD COLUMN "+column+" DEFAULT 1"), orama.Select("SELECT * FROM changing"))
		}
		s.query("SELECT * FROM changing")
	},
	"db-connection": func(s *saw) {
		s.exec("CREATE TABLE own (id INTEGER PRIMARY KEY)")
		s.exec("INSERT INTO own VALUES (70), (71)")
		s.query("SELECT max(id) AS id FROM own")
		s.transaction(
			orama.Exec("INSERT INTO own (id) VALUES (80)"),
			orama.Select("SELECT last_insert_rowid() AS id, changes() AS n"),
		)
	},
	"db-limits": func(s *saw) {
		many := func(count int) (statements []orama.Statement) {
			for range count {
				statements = append(statements, orama.Select("SELECT 1 AS x"))
			}
			return statements
		}
		results, _, err := orama.Transaction(many(100)...)
		s.add(len(results), err)
		results, _, err = orama.Transaction(many(101)...)
		s.add(len(results), err)
		results, err = orama.QueryBatch(orama.Weak, many(101)...)
		s.add(len(results), err)
		counted := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n"
		rows, err := orama.Query(counted, 10_000)
		s.add(len(rows), err)
		rows, err = orama.Query(counted, 10_001)
		s.add(len(rows), err)
		_, err = orama.Query("SELECT '" + strings.Repeat("x", 1<<20) + "'")
		s.add(err)
		_, err = orama.Query("SELECT length(?) AS n", strings.Repeat("x", 4<<20+1))
		s.add(err)
		s.query("SELECT length(?) AS n", strings.Repeat("x", 4<<20))
		s.query("SELECT length(zeroblob(5000000)) AS n")
		s.exec("CREATE TABLE large (v)")
		s.exec("INSERT INTO large VALUES (?)", strings.Repeat("x", 1<<20))
		parts := many(0)
		for range 33 {
			parts = append(parts, orama.Select("SELECT v FROM large"))
		}
		results, err = orama.QueryBatch(orama.Weak, parts...)
		s.add(len(results), err)
		arguments := make([]any, 32_767)
		for at := range arguments {
			arguments[at] = at
		}
		_, err = orama.Query("SELECT 1", arguments...)
		s.add(err)
		s.query("SELECT 'a' LIKE ?", strings.Repeat("%", 1001))
		s.query(fmt.Sprintf("SELECT %s 1", strings.Repeat("1 +", 1200)))
	},
	"db-outbox": func(s *saw) {
		publish := func(topic string, v any, statements ...orama.Statement) {
			results, seq, committed, err := orama.ExecuteAndPublish(topic, v, statements...)
			s.add(seq, committed)
			s.batch(results, err)
		}
		publish("outbox", "number {{seq}}", orama.Exec("CREATE TABLE outbox (x)"))
		publish("outbox", map[string]any{"{{seq}}": "{{seq}}"}, orama.Exec("INSERT INTO outbox VALUES (1)"), orama.Select("SELECT * FROM outbox"))
		publish("outbox", json.RawMessage(`{"n":1}`), orama.Exec("INSERT INTO outbox VALUES (2)"), orama.Exec("INSERT INTO nowhere VALUES (1)"))
		publish("", 1, orama.Exec("INSERT INTO outbox VALUES (3)"))
		publish("_orama/x", 1, orama.Exec("INSERT INTO outbox VALUES (4)"))
		publish("outbox", strings.Repeat("{{seq}}", 90_000), orama.Exec("INSERT INTO outbox VALUES (5)"))
		publish("outbox", 1, orama.Select("SELECT * FROM outbox"), orama.Select("SELECT * FROM nowhere"))
		publish("outbox", "last {{seq}}")
		var many []orama.Statement
		for range 99 {
			many = append(many, orama.Exec("INSERT INTO outbox VALUES (6)"))
		}
		publish("outbox", 1, many...)
		s.query("SELECT * FROM outbox")
	},
}
