package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Rows are what a query gives, each value as JSON; bytes are base64 text, which decodes into a []byte.
type Rows struct {
	Columns []string            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
}

// QueryRows runs a statement that gives rows. Parameters, for $1, $2 and so on, are nil, bool, numbers, strings and []byte.
func QueryRows(sql string, params ...any) (*Rows, error) {
	answer, err := askDB(hostDBQuery, "query", sql, params)
	if err != nil {
		return nil, err
	}
	rows := new(Rows)
	if err := decodeReply(answer.body, rows, "query", sql); err != nil {
		return nil, err
	}
	if rows.Columns == nil || rows.Rows == nil {
		return nil, badReply("query", sql, "it has no columns or no rows")
	}
	return rows, nil
}

// Query runs a statement that gives rows, and decodes each into a Row: a struct or a map takes columns by their names, as
// encoding/json takes keys; anything else takes the only column.
//
//	notes, err := guest.Query[Note]("SELECT id, title FROM notes WHERE id > $1", 7)
//	counts, err := guest.Query[int64]("SELECT count(*) FROM notes")
func Query[Row any](sql string, params ...any) ([]Row, error) {
	found, err := QueryRows(sql, params...)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(found.Rows))
	for i, values := range found.Rows {
		content, err := rowContent(reflect.TypeFor[Row](), found.Columns, values)
		if err == nil {
			err = unmarshal(content, &rows[i])
		}
		if err != nil {
			return nil, badReply("query", sql, fmt.Sprintf("row %d: %v", i+1, err))
		}
	}
	return rows, nil
}

// Exec runs a statement that changes something, and returns how many rows it changed.
func Exec(sql string, params ...any) (changed int64, err error) {
	answer, err := askDB(hostDBExec, "exec", sql, params)
	if err != nil {
		return 0, err
	}
	var head struct {
		RowsChanged *int64 `json:"rows_changed"`
	}
	if err := decodeReply(answer.head, &head, "exec", sql); err != nil {
		return 0, err
	}
	if head.RowsChanged == nil {
		return 0, badReply("exec", sql, "it has no rows_changed")
	}
	return *head.RowsChanged, nil
}

func askDB(call func(sql, params string) int32, name, sql string, params []any) (answer reply, err error) {
	err = encodeParams(params, func(encoded []byte) {
		answer = ask(func() int32 { return call(sql, asString(encoded)) })
	})
	if err == nil {
		err = answer.failure(name, sql)
	}
	return answer, err
}

type bytesParam struct {
	Base64 []byte `json:"base64"`
}

func encodeParams(params []any, use func(json []byte)) error {
	scalars := make([]any, len(params))
	for i, param := range params {
		if content, isBytes := param.([]byte); isBytes && content != nil {
			param = bytesParam{content}
		}
		scalars[i] = param
	}
	return encode(scalars, "a parameter", use)
}

// rowContent returns a row as the JSON that its type decodes from.
func rowContent(row reflect.Type, columns []string, values []json.RawMessage) ([]byte, error) {
	if len(values) != len(columns) {
		return nil, fmt.Errorf("it has %d values in %d columns", len(values), len(columns))
	}
	if kind := row.Kind(); kind != reflect.Struct && kind != reflect.Map {
		if len(values) != 1 {
			return nil, fmt.Errorf("%d columns don't fit into one %s", len(values), row)
		}
		return values[0], nil
	}
	var object bytes.Buffer
	object.WriteByte('{')
	for i, value := range values {
		if i > 0 {
			object.WriteByte(',')
		}
		object.Write(appendQuoted(nil, columns[i]))
		object.WriteByte(':')
		object.Write(value)
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}
