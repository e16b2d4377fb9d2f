export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "atlas": {
    Tables: {
      "attempt": {
        Row: {
          "error_code": string | null;
          "error_message": string | null;
          "finished_at": string | null;
          "first_delta_at": string | null;
          "generation": number;
          "id": string;
          "late_text": string | null;
          "lease_expires_at": string;
          "lease_owner": string;
          "model": string | null;
          "number": number;
          "progress_sent_at": string | null;
          "response_id": string | null;
          "response_offset": number;
          "sequence_number": number | null;
          "started_at": string;
          "state": string;
          "task_id": string;
        };
        ComputedFields: never;
        Insert: {
          "error_code"?: string | null;
          "error_message"?: string | null;
          "finished_at"?: string | null;
          "first_delta_at"?: string | null;
          "generation"?: number;
          "id": string;
          "late_text"?: string | null;
          "lease_expires_at": string;
          "lease_owner": string;
          "model"?: string | null;
          "number": number;
          "progress_sent_at"?: string | null;
          "response_id"?: string | null;
          "response_offset"?: number;
          "sequence_number"?: number | null;
          "started_at"?: string;
          "state"?: string;
          "task_id": string;
        };
        Update: {
          "error_code"?: string | null;
          "error_message"?: string | null;
          "finished_at"?: string | null;
          "first_delta_at"?: string | null;
          "generation"?: number;
          "id"?: string;
          "late_text"?: string | null;
          "lease_expires_at"?: string;
          "lease_owner"?: string;
          "model"?: string | null;
          "number"?: number;
          "progress_sent_at"?: string | null;
          "response_id"?: string | null;
          "response_offset"?: number;
          "sequence_number"?: number | null;
          "started_at"?: string;
          "state"?: string;
          "task_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "attempt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "attempt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "attempt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "audit": {
        Row: {
          "actor": string;
          "at": string;
          "detail": NonNullable<Json>;
          "event": string;
          "hash": string;
          "id": number;
          "prev_hash": string | null;
          "seq": number;
          "task_id": string | null;
          "xact": unknown;
        };
        ComputedFields: never;
        Insert: {
          "actor": string;
          "at"?: string;
          "detail"?: NonNullable<Json>;
          "event": string;
          "hash": string;
          "id"?: never;
          "prev_hash"?: string | null;
          "seq": number;
          "task_id"?: string | null;
          "xact"?: unknown;
        };
        Update: {
          "actor"?: string;
          "at"?: string;
          "detail"?: NonNullable<Json>;
          "event"?: string;
          "hash"?: string;
          "id"?: never;
          "prev_hash"?: string | null;
          "seq"?: number;
          "task_id"?: string | null;
          "xact"?: unknown;
        };
        Relationships: [];
      };
      "audit_checkpoint": {
        Row: {
          "at": string;
          "digest": string;
          "id": number;
          "mac": string;
          "next_check": string;
          "prev_mac": string | null;
          "rows": number;
          "upto": unknown;
        };
        ComputedFields: never;
        Insert: {
          "at"?: string;
          "digest": string;
          "id"?: never;
          "mac": string;
          "next_check": string;
          "prev_mac"?: string | null;
          "rows": number;
          "upto": unknown;
        };
        Update: {
          "at"?: string;
          "digest"?: string;
          "id"?: never;
          "mac"?: string;
          "next_check"?: string;
          "prev_mac"?: string | null;
          "rows"?: number;
          "upto"?: unknown;
        };
        Relationships: [];
      };
      "budget": {
        Row: {
          "controlled": (string)[];
          "created_at": string;
          "daily": number | null;
          "day_lowered_at": string | null;
          "enforcement": string;
          "month_lowered_at": string | null;
          "monthly": number | null;
          "per_run": number | null;
          "run_lowered_at": string | null;
          "scope": string;
          "set_by": string;
          "updated_at": string;
          "usd_daily": number | null;
          "usd_monthly": number | null;
          "usd_per_run": number | null;
          "when_spent": string;
        };
        ComputedFields: never;
        Insert: {
          "controlled"?: (string)[];
          "created_at"?: string;
          "daily"?: number | null;
          "day_lowered_at"?: string | null;
          "enforcement"?: string;
          "month_lowered_at"?: string | null;
          "monthly"?: number | null;
          "per_run"?: number | null;
          "run_lowered_at"?: string | null;
          "scope": string;
          "set_by"?: never;
          "updated_at"?: string;
          "usd_daily"?: number | null;
          "usd_monthly"?: number | null;
          "usd_per_run"?: number | null;
          "when_spent"?: string;
        };
        Update: {
          "controlled"?: (string)[];
          "created_at"?: string;
          "daily"?: number | null;
          "day_lowered_at"?: string | null;
          "enforcement"?: string;
          "month_lowered_at"?: string | null;
          "monthly"?: number | null;
          "per_run"?: number | null;
          "run_lowered_at"?: string | null;
          "scope"?: string;
          "set_by"?: never;
          "updated_at"?: string;
          "usd_daily"?: number | null;
          "usd_monthly"?: number | null;
          "usd_per_run"?: number | null;
          "when_spent"?: string;
        };
        Relationships: [];
      };
      "budget_day": {
        Row: {
          "day": string;
          "overrun_tokens": number;
          "reserved_tokens": number;
          "reserved_usd": number;
          "scope": string;
          "settled_tokens": number;
          "settled_usd": number;
        };
        ComputedFields: never;
        Insert: {
          "day": string;
          "overrun_tokens"?: number;
          "reserved_tokens"?: number;
          "reserved_usd"?: number;
          "scope": string;
          "settled_tokens"?: number;
          "settled_usd"?: number;
        };
        Update: {
          "day"?: string;
          "overrun_tokens"?: number;
          "reserved_tokens"?: number;
          "reserved_usd"?: number;
          "scope"?: string;
          "settled_tokens"?: number;
          "settled_usd"?: number;
        };
        Relationships: [
          {
            foreignKeyName: "budget_day_scope_fkey";
            columns: ["scope"];
            isOneToOne: false;
            referencedRelation: "budget";
            referencedColumns: ["scope"];
          },
          {
            foreignKeyName: "budget_day_scope_fkey";
            columns: ["scope"];
            isOneToOne: false;
            referencedRelation: "budget_now";
            referencedColumns: ["scope"];
          },
        ];
      };
      "budget_event": {
        Row: {
          "at": string;
          "level": number;
          "most": number;
          "period": string;
          "scope": string;
          "starts": string;
          "unit": string;
        };
        ComputedFields: never;
        Insert: {
          "at"?: string;
          "level": number;
          "most": number;
          "period": string;
          "scope": string;
          "starts": string;
          "unit": string;
        };
        Update: {
          "at"?: string;
          "level"?: number;
          "most"?: number;
          "period"?: string;
          "scope"?: string;
          "starts"?: string;
          "unit"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "budget_event_scope_fkey";
            columns: ["scope"];
            isOneToOne: false;
            referencedRelation: "budget";
            referencedColumns: ["scope"];
          },
          {
            foreignKeyName: "budget_event_scope_fkey";
            columns: ["scope"];
            isOneToOne: false;
            referencedRelation: "budget_now";
            referencedColumns: ["scope"];
          },
        ];
      };
      "control": {
        Row: {
          "audit_broken": number;
          "audit_checked_at": string | null;
          "books_checked_at": string | null;
          "books_wrong": number;
          "cache_flushed_at": string | null;
          "keep_tasks": string | null;
          "keep_texts": string | null;
          "only_row": boolean;
          "parts_trimmed_to": string;
          "paused_at": string | null;
          "paused_by": string | null;
          "reason": string | null;
        };
        ComputedFields: never;
        Insert: {
          "audit_broken"?: number;
          "audit_checked_at"?: string | null;
          "books_checked_at"?: string | null;
          "books_wrong"?: number;
          "cache_flushed_at"?: string | null;
          "keep_tasks"?: string | null;
          "keep_texts"?: string | null;
          "only_row"?: boolean;
          "parts_trimmed_to"?: string;
          "paused_at"?: string | null;
          "paused_by"?: string | null;
          "reason"?: string | null;
        };
        Update: {
          "audit_broken"?: number;
          "audit_checked_at"?: string | null;
          "books_checked_at"?: string | null;
          "books_wrong"?: number;
          "cache_flushed_at"?: string | null;
          "keep_tasks"?: string | null;
          "keep_texts"?: string | null;
          "only_row"?: boolean;
          "parts_trimmed_to"?: string;
          "paused_at"?: string | null;
          "paused_by"?: string | null;
          "reason"?: string | null;
        };
        Relationships: [];
      };
      "decision": {
        Row: {
          "asked": (string)[];
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "content": string;
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "task_id": string | null;
          "title": string;
          "words": (string)[];
          "decision_chunks": Json | null;
          "index_decision": undefined | null;
        };
        ComputedFields: "decision_chunks" | "index_decision";
        Insert: {
          "asked"?: never;
          "asked_by": string;
          "checks"?: (string)[];
          "constraints"?: (string)[];
          "content": string;
          "decided_at"?: string;
          "decided_by": string;
          "file"?: string | null;
          "number": number;
          "paths"?: (string)[];
          "project_id": string;
          "question"?: string;
          "reason"?: string | null;
          "sources"?: (string)[];
          "status": string;
          "superseded_at"?: string | null;
          "superseded_by"?: number | null;
          "superseded_reason"?: string | null;
          "task_id"?: string | null;
          "title": string;
          "words"?: never;
        };
        Update: {
          "asked"?: never;
          "asked_by"?: string;
          "checks"?: (string)[];
          "constraints"?: (string)[];
          "content"?: string;
          "decided_at"?: string;
          "decided_by"?: string;
          "file"?: string | null;
          "number"?: number;
          "paths"?: (string)[];
          "project_id"?: string;
          "question"?: string;
          "reason"?: string | null;
          "sources"?: (string)[];
          "status"?: string;
          "superseded_at"?: string | null;
          "superseded_by"?: number | null;
          "superseded_reason"?: string | null;
          "task_id"?: string | null;
          "title"?: string;
          "words"?: never;
        };
        Relationships: [
          {
            foreignKeyName: "decision_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "decision_project_id_superseded_by_fkey";
            columns: ["project_id", "superseded_by"];
            isOneToOne: false;
            referencedRelation: "decision";
            referencedColumns: ["project_id", "number"];
          },
          {
            foreignKeyName: "decision_project_id_superseded_by_fkey";
            columns: ["project_id", "superseded_by"];
            isOneToOne: false;
            referencedRelation: "decisions";
            referencedColumns: ["project_id", "number"];
          },
        ];
      };
      "destination": {
        Row: {
          "adopted_at": string | null;
          "created_at": string;
          "enabled": boolean;
          "events_since": string;
          "failures": number;
          "filter": NonNullable<Json>;
          "id": string;
          "kind": string;
          "last_error": string | null;
          "last_sent_at": string | null;
          "name": string;
          "open_until": string | null;
          "secret_name": string | null;
          "target": string;
        };
        ComputedFields: never;
        Insert: {
          "adopted_at"?: string | null;
          "created_at"?: string;
          "enabled"?: boolean;
          "events_since"?: string;
          "failures"?: number;
          "filter"?: NonNullable<Json>;
          "id"?: string;
          "kind": string;
          "last_error"?: string | null;
          "last_sent_at"?: string | null;
          "name": string;
          "open_until"?: string | null;
          "secret_name"?: string | null;
          "target": string;
        };
        Update: {
          "adopted_at"?: string | null;
          "created_at"?: string;
          "enabled"?: boolean;
          "events_since"?: string;
          "failures"?: number;
          "filter"?: NonNullable<Json>;
          "id"?: string;
          "kind"?: string;
          "last_error"?: string | null;
          "last_sent_at"?: string | null;
          "name"?: string;
          "open_until"?: string | null;
          "secret_name"?: string | null;
          "target"?: string;
        };
        Relationships: [];
      };
      "deviation": {
        Row: {
          "commit": string | null;
          "constraint_text": string;
          "id": number;
          "item": number;
          "number": number;
          "project_id": string;
          "reason": string;
          "reported_at": string;
          "reported_by": string;
          "task_id": string;
        };
        ComputedFields: never;
        Insert: {
          "commit"?: string | null;
          "constraint_text": string;
          "id"?: never;
          "item": number;
          "number": number;
          "project_id": string;
          "reason": string;
          "reported_at"?: string;
          "reported_by": string;
          "task_id": string;
        };
        Update: {
          "commit"?: string | null;
          "constraint_text"?: string;
          "id"?: never;
          "item"?: number;
          "number"?: number;
          "project_id"?: string;
          "reason"?: string;
          "reported_at"?: string;
          "reported_by"?: string;
          "task_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "deviation_project_id_number_fkey";
            columns: ["project_id", "number"];
            isOneToOne: false;
            referencedRelation: "decision";
            referencedColumns: ["project_id", "number"];
          },
          {
            foreignKeyName: "deviation_project_id_number_fkey";
            columns: ["project_id", "number"];
            isOneToOne: false;
            referencedRelation: "decisions";
            referencedColumns: ["project_id", "number"];
          },
        ];
      };
      "id_key": {
        Row: {
          "key": string;
          "singleton": boolean;
        };
        ComputedFields: never;
        Insert: {
          "key"?: string;
          "singleton"?: boolean;
        };
        Update: {
          "key"?: string;
          "singleton"?: boolean;
        };
        Relationships: [];
      };
      "identity": {
        Row: {
          "created_at": string;
          "external_id": string;
          "provider": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "external_id": string;
          "provider": string;
          "user_id": string;
        };
        Update: {
          "created_at"?: string;
          "external_id"?: string;
          "provider"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "inbound": {
        Row: {
          "event_id": string;
          "received_at": string;
          "source": string;
          "task_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "event_id": string;
          "received_at"?: string;
          "source": string;
          "task_id"?: string | null;
        };
        Update: {
          "event_id"?: string;
          "received_at"?: string;
          "source"?: string;
          "task_id"?: string | null;
        };
        Relationships: [];
      };
      "later_trim": {
        Row: {
          "due": string;
          "task_id": string;
        };
        ComputedFields: never;
        Insert: {
          "due": string;
          "task_id": string;
        };
        Update: {
          "due"?: string;
          "task_id"?: string;
        };
        Relationships: [];
      };
      "member": {
        Row: {
          "created_at": string;
          "project_id": string;
          "role": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "project_id": string;
          "role"?: string;
          "user_id": string;
        };
        Update: {
          "created_at"?: string;
          "project_id"?: string;
          "role"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "member_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
        ];
      };
      "model": {
        Row: {
          "context_tokens": number | null;
          "max_output_tokens": number | null;
          "name": string;
          "note": string | null;
          "reasoning": boolean;
          "reasoning_effort": string | null;
          "shutdown_at": string | null;
          "streams": boolean;
          "successor": string | null;
          "temperature": boolean;
          "vocabulary": string | null;
        };
        ComputedFields: never;
        Insert: {
          "context_tokens"?: number | null;
          "max_output_tokens"?: number | null;
          "name": string;
          "note"?: string | null;
          "reasoning"?: boolean;
          "reasoning_effort"?: string | null;
          "shutdown_at"?: string | null;
          "streams"?: boolean;
          "successor"?: string | null;
          "temperature"?: boolean;
          "vocabulary"?: string | null;
        };
        Update: {
          "context_tokens"?: number | null;
          "max_output_tokens"?: number | null;
          "name"?: string;
          "note"?: string | null;
          "reasoning"?: boolean;
          "reasoning_effort"?: string | null;
          "shutdown_at"?: string | null;
          "streams"?: boolean;
          "successor"?: string | null;
          "temperature"?: boolean;
          "vocabulary"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "model_successor_fkey";
            columns: ["successor"];
            isOneToOne: false;
            referencedRelation: "model";
            referencedColumns: ["name"];
          },
        ];
      };
      "model_price": {
        Row: {
          "cache_write_usd": number | null;
          "cached_usd": number | null;
          "input_usd": number;
          "long_input_factor": number;
          "long_input_from": number | null;
          "long_output_factor": number;
          "model": string;
          "output_usd": number;
          "valid_from": string;
        };
        ComputedFields: never;
        Insert: {
          "cache_write_usd"?: number | null;
          "cached_usd"?: number | null;
          "input_usd": number;
          "long_input_factor"?: number;
          "long_input_from"?: number | null;
          "long_output_factor"?: number;
          "model": string;
          "output_usd": number;
          "valid_from": string;
        };
        Update: {
          "cache_write_usd"?: number | null;
          "cached_usd"?: number | null;
          "input_usd"?: number;
          "long_input_factor"?: number;
          "long_input_from"?: number | null;
          "long_output_factor"?: number;
          "model"?: string;
          "output_usd"?: number;
          "valid_from"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "model_price_model_fkey";
            columns: ["model"];
            isOneToOne: false;
            referencedRelation: "model";
            referencedColumns: ["name"];
          },
        ];
      };
      "model_state": {
        Row: {
          "failed_at": (string)[];
          "last_error": string | null;
          "measured_at": string | null;
          "missing_since": string | null;
          "model": string;
          "probe_at": string;
          "since": string;
          "state": string;
          "succeeded_at": string | null;
          "trial_at": string;
          "trials": number;
          "updated_at": string;
          "usual_output": number | null;
        };
        ComputedFields: never;
        Insert: {
          "failed_at"?: (string)[];
          "last_error"?: string | null;
          "measured_at"?: string | null;
          "missing_since"?: string | null;
          "model": string;
          "probe_at"?: string;
          "since"?: string;
          "state"?: string;
          "succeeded_at"?: string | null;
          "trial_at"?: string;
          "trials"?: number;
          "updated_at"?: string;
          "usual_output"?: number | null;
        };
        Update: {
          "failed_at"?: (string)[];
          "last_error"?: string | null;
          "measured_at"?: string | null;
          "missing_since"?: string | null;
          "model"?: string;
          "probe_at"?: string;
          "since"?: string;
          "state"?: string;
          "succeeded_at"?: string | null;
          "trial_at"?: string;
          "trials"?: number;
          "updated_at"?: string;
          "usual_output"?: number | null;
        };
        Relationships: [];
      };
      "notification": {
        Row: {
          "cause": string;
          "raised_at": string;
          "text": string;
        };
        ComputedFields: never;
        Insert: {
          "cause": string;
          "raised_at"?: string;
          "text": string;
        };
        Update: {
          "cause"?: string;
          "raised_at"?: string;
          "text"?: string;
        };
        Relationships: [];
      };
      "open_draft": {
        Row: {
          "made_at": string;
          "project_id": string;
          "task_id": string;
          "title": string;
          "words": (string)[];
        };
        ComputedFields: never;
        Insert: {
          "made_at"?: string;
          "project_id": string;
          "task_id": string;
          "title": string;
          "words": (string)[];
        };
        Update: {
          "made_at"?: string;
          "project_id"?: string;
          "task_id"?: string;
          "title"?: string;
          "words"?: (string)[];
        };
        Relationships: [
          {
            foreignKeyName: "open_draft_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "open_draft_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: true;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "open_draft_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: true;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "open_draft_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: true;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "outbox": {
        Row: {
          "created_at": string;
          "destination_id": string | null;
          "event_id": string;
          "event_kind": string;
          "id": number;
          "last_error": string | null;
          "lease_expires_at": string | null;
          "lease_owner": string | null;
          "out_id": number | null;
          "payload": Json | null;
          "position": number;
          "rejections": number;
          "run_after": string;
          "sent_at": string | null;
          "state": string;
          "task_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "destination_id"?: string | null;
          "event_id": string;
          "event_kind"?: string;
          "id"?: never;
          "last_error"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_owner"?: string | null;
          "out_id"?: number | null;
          "payload"?: Json | null;
          "position": number;
          "rejections"?: number;
          "run_after"?: string;
          "sent_at"?: string | null;
          "state"?: string;
          "task_id"?: string | null;
        };
        Update: {
          "created_at"?: string;
          "destination_id"?: string | null;
          "event_id"?: string;
          "event_kind"?: string;
          "id"?: never;
          "last_error"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_owner"?: string | null;
          "out_id"?: number | null;
          "payload"?: Json | null;
          "position"?: number;
          "rejections"?: number;
          "run_after"?: string;
          "sent_at"?: string | null;
          "state"?: string;
          "task_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "outbox_destination_id_fkey";
            columns: ["destination_id"];
            isOneToOne: false;
            referencedRelation: "destination";
            referencedColumns: ["id"];
          },
        ];
      };
      "post": {
        Row: {
          "address": string;
          "created_at": string;
          "event_id": string;
          "external_id": string | null;
          "lease_expires_at": string;
          "part": string;
          "state": string;
          "task_id": string;
          "url": string | null;
        };
        ComputedFields: never;
        Insert: {
          "address": string;
          "created_at"?: string;
          "event_id": string;
          "external_id"?: string | null;
          "lease_expires_at": string;
          "part": string;
          "state"?: string;
          "task_id": string;
          "url"?: string | null;
        };
        Update: {
          "address"?: string;
          "created_at"?: string;
          "event_id"?: string;
          "external_id"?: string | null;
          "lease_expires_at"?: string;
          "part"?: string;
          "state"?: string;
          "task_id"?: string;
          "url"?: string | null;
        };
        Relationships: [];
      };
      "price_factor": {
        Row: {
          "factor": number;
          "kind": string;
          "name": string;
        };
        ComputedFields: never;
        Insert: {
          "factor": number;
          "kind": string;
          "name": string;
        };
        Update: {
          "factor"?: number;
          "kind"?: string;
          "name"?: string;
        };
        Relationships: [];
      };
      "project": {
        Row: {
          "created_at": string;
          "id": string;
          "name": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "id"?: string;
          "name": string;
        };
        Update: {
          "created_at"?: string;
          "id"?: string;
          "name"?: string;
        };
        Relationships: [];
      };
      "prompt": {
        Row: {
          "attempt_id": string;
          "body": NonNullable<Json>;
          "call": number;
          "made_at": string;
          "model": string;
          "parameters": NonNullable<Json>;
          "sha256": string;
          "sources": NonNullable<Json>;
          "task_id": string;
          "texts": (string)[];
          "version": string;
        };
        ComputedFields: never;
        Insert: {
          "attempt_id": string;
          "body": NonNullable<Json>;
          "call": number;
          "made_at"?: string;
          "model": string;
          "parameters": NonNullable<Json>;
          "sha256": string;
          "sources": NonNullable<Json>;
          "task_id": string;
          "texts": (string)[];
          "version": string;
        };
        Update: {
          "attempt_id"?: string;
          "body"?: NonNullable<Json>;
          "call"?: number;
          "made_at"?: string;
          "model"?: string;
          "parameters"?: NonNullable<Json>;
          "sha256"?: string;
          "sources"?: NonNullable<Json>;
          "task_id"?: string;
          "texts"?: (string)[];
          "version"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "prompt_attempt_id_fkey";
            columns: ["attempt_id"];
            isOneToOne: false;
            referencedRelation: "attempt";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "prompt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "prompt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "prompt_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "prompt_text": {
        Row: {
          "seen_at": string;
          "sha256": string;
          "text": string;
        };
        ComputedFields: never;
        Insert: {
          "seen_at"?: string;
          "sha256": string;
          "text": string;
        };
        Update: {
          "seen_at"?: string;
          "sha256"?: string;
          "text"?: string;
        };
        Relationships: [];
      };
      "rate_bucket": {
        Row: {
          "as_of": string;
          "blocked_until": string | null;
          "level": number;
          "model": string;
          "per_minute": number;
          "unit": string;
        };
        ComputedFields: never;
        Insert: {
          "as_of"?: string;
          "blocked_until"?: string | null;
          "level": number;
          "model": string;
          "per_minute": number;
          "unit": string;
        };
        Update: {
          "as_of"?: string;
          "blocked_until"?: string | null;
          "level"?: number;
          "model"?: string;
          "per_minute"?: number;
          "unit"?: string;
        };
        Relationships: [];
      };
      "rejected_message": {
        Row: {
          "created_at": string;
          "id": number;
          "payload": Json | null;
          "reason": string;
          "source": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "id"?: never;
          "payload"?: Json | null;
          "reason": string;
          "source": string;
        };
        Update: {
          "created_at"?: string;
          "id"?: never;
          "payload"?: Json | null;
          "reason"?: string;
          "source"?: string;
        };
        Relationships: [];
      };
      "reply_part": {
        Row: {
          "attempt_id": string;
          "created_at": string;
          "generation": number;
          "inherited": boolean;
          "offset": number;
          "seq": number;
          "task_id": string;
          "text": string;
        };
        ComputedFields: never;
        Insert: {
          "attempt_id": string;
          "created_at"?: string;
          "generation": number;
          "inherited"?: boolean;
          "offset": number;
          "seq"?: number;
          "task_id": string;
          "text": string;
        };
        Update: {
          "attempt_id"?: string;
          "created_at"?: string;
          "generation"?: number;
          "inherited"?: boolean;
          "offset"?: number;
          "seq"?: number;
          "task_id"?: string;
          "text"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "reply_part_attempt_id_fkey";
            columns: ["attempt_id"];
            isOneToOne: false;
            referencedRelation: "attempt";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "reply_part_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "reply_part_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "reply_part_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "spend": {
        Row: {
          "adopted_at": string | null;
          "asked_at": string | null;
          "attempt_id": string;
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "call": number;
          "completion_window": string;
          "corrects": number | null;
          "day": string;
          "factor": number;
          "held_until": string | null;
          "id": number;
          "input_tokens": number | null;
          "known": string | null;
          "left_at": string | null;
          "model": string;
          "output_tokens": number | null;
          "over_reservation": boolean;
          "price_from": string | null;
          "reasoning_tokens": number | null;
          "reserved_at": string;
          "reserved_output": number;
          "reserved_tokens": number;
          "reserved_usd": number | null;
          "response_id": string | null;
          "scopes": (string)[];
          "settled_at": string | null;
          "state": string;
          "task_id": string;
          "tier": string;
          "tier_given": string | null;
          "tokens": number | null;
          "unstored": boolean;
          "usd": number | null;
        };
        ComputedFields: never;
        Insert: {
          "adopted_at"?: string | null;
          "asked_at"?: string | null;
          "attempt_id": string;
          "cache_write_tokens"?: number | null;
          "cached_tokens"?: number | null;
          "call": number;
          "completion_window"?: string;
          "corrects"?: number | null;
          "day": string;
          "factor"?: number;
          "held_until"?: string | null;
          "id"?: never;
          "input_tokens"?: number | null;
          "known"?: string | null;
          "left_at"?: string | null;
          "model": string;
          "output_tokens"?: number | null;
          "over_reservation"?: boolean;
          "price_from"?: string | null;
          "reasoning_tokens"?: number | null;
          "reserved_at"?: string;
          "reserved_output"?: number;
          "reserved_tokens": number;
          "reserved_usd"?: number | null;
          "response_id"?: string | null;
          "scopes": (string)[];
          "settled_at"?: string | null;
          "state"?: string;
          "task_id": string;
          "tier"?: string;
          "tier_given"?: string | null;
          "tokens"?: number | null;
          "unstored"?: boolean;
          "usd"?: number | null;
        };
        Update: {
          "adopted_at"?: string | null;
          "asked_at"?: string | null;
          "attempt_id"?: string;
          "cache_write_tokens"?: number | null;
          "cached_tokens"?: number | null;
          "call"?: number;
          "completion_window"?: string;
          "corrects"?: number | null;
          "day"?: string;
          "factor"?: number;
          "held_until"?: string | null;
          "id"?: never;
          "input_tokens"?: number | null;
          "known"?: string | null;
          "left_at"?: string | null;
          "model"?: string;
          "output_tokens"?: number | null;
          "over_reservation"?: boolean;
          "price_from"?: string | null;
          "reasoning_tokens"?: number | null;
          "reserved_at"?: string;
          "reserved_output"?: number;
          "reserved_tokens"?: number;
          "reserved_usd"?: number | null;
          "response_id"?: string | null;
          "scopes"?: (string)[];
          "settled_at"?: string | null;
          "state"?: string;
          "task_id"?: string;
          "tier"?: string;
          "tier_given"?: string | null;
          "tokens"?: number | null;
          "unstored"?: boolean;
          "usd"?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "spend_corrects_fkey";
            columns: ["corrects"];
            isOneToOne: false;
            referencedRelation: "spend";
            referencedColumns: ["id"];
          },
        ];
      };
      "spend_rules": {
        Row: {
          "held_retry_seconds": number;
          "hold_seconds": number;
          "hold_unknown": string;
          "only_row": boolean;
          "sender_daily_share": number | null;
        };
        ComputedFields: never;
        Insert: {
          "held_retry_seconds"?: number;
          "hold_seconds"?: number;
          "hold_unknown"?: string;
          "only_row"?: boolean;
          "sender_daily_share"?: number | null;
        };
        Update: {
          "held_retry_seconds"?: number;
          "hold_seconds"?: number;
          "hold_unknown"?: string;
          "only_row"?: boolean;
          "sender_daily_share"?: number | null;
        };
        Relationships: [];
      };
      "task": {
        Row: {
          "adopted_at": string | null;
          "answered": string | null;
          "asked": string | null;
          "attempt_id": string | null;
          "attempts": number;
          "cancel_requested_at": string | null;
          "claim_seq": number | null;
          "dead_letter": boolean;
          "early_losses": number;
          "erased_at": string | null;
          "error_code": string | null;
          "error_message": string | null;
          "escalated_at": string | null;
          "failures": number;
          "finished_at": string | null;
          "id": string;
          "in_id": number;
          "kind": string;
          "losses": number;
          "max_attempts": number;
          "message_task_id": string;
          "model": string | null;
          "out_id": number | null;
          "outage_since": string | null;
          "parent_id": string | null;
          "priority": number;
          "project_id": string;
          "queued_at": string;
          "rank": number;
          "ready": boolean;
          "run_after": string;
          "sender": string | null;
          "sender_key": string;
          "started_at": string | null;
          "state": string;
          "title": string;
          "wait_reason": string | null;
          "wait_scope": string | null;
          "go_on_with": undefined | null;
          "inherited_response": Json | null;
        };
        ComputedFields: "go_on_with" | "inherited_response";
        Insert: {
          "adopted_at"?: string | null;
          "answered"?: string | null;
          "asked"?: string | null;
          "attempt_id"?: string | null;
          "attempts"?: number;
          "cancel_requested_at"?: string | null;
          "claim_seq"?: number | null;
          "dead_letter"?: never;
          "early_losses"?: number;
          "erased_at"?: string | null;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "escalated_at"?: string | null;
          "failures"?: number;
          "finished_at"?: string | null;
          "id": string;
          "in_id": number;
          "kind": string;
          "losses"?: number;
          "max_attempts"?: number;
          "message_task_id": string;
          "model"?: string | null;
          "out_id"?: number | null;
          "outage_since"?: string | null;
          "parent_id"?: string | null;
          "priority"?: number;
          "project_id": string;
          "queued_at"?: string;
          "rank"?: never;
          "ready"?: never;
          "run_after"?: string;
          "sender"?: string | null;
          "sender_key": string;
          "started_at"?: string | null;
          "state"?: string;
          "title": string;
          "wait_reason"?: string | null;
          "wait_scope"?: string | null;
        };
        Update: {
          "adopted_at"?: string | null;
          "answered"?: string | null;
          "asked"?: string | null;
          "attempt_id"?: string | null;
          "attempts"?: number;
          "cancel_requested_at"?: string | null;
          "claim_seq"?: number | null;
          "dead_letter"?: never;
          "early_losses"?: number;
          "erased_at"?: string | null;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "escalated_at"?: string | null;
          "failures"?: number;
          "finished_at"?: string | null;
          "id"?: string;
          "in_id"?: number;
          "kind"?: string;
          "losses"?: number;
          "max_attempts"?: number;
          "message_task_id"?: string;
          "model"?: string | null;
          "out_id"?: number | null;
          "outage_since"?: string | null;
          "parent_id"?: string | null;
          "priority"?: number;
          "project_id"?: string;
          "queued_at"?: string;
          "rank"?: never;
          "ready"?: never;
          "run_after"?: string;
          "sender"?: string | null;
          "sender_key"?: string;
          "started_at"?: string | null;
          "state"?: string;
          "title"?: string;
          "wait_reason"?: string | null;
          "wait_scope"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "task_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
        ];
      };
      "watch": {
        Row: {
          "expires_at": string;
          "reader": string;
          "sent_at": string | null;
          "sent_attempt": number | null;
          "sent_generation": number | null;
          "sent_to": number | null;
          "task_id": string;
          "user_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "expires_at": string;
          "reader": string;
          "sent_at"?: string | null;
          "sent_attempt"?: number | null;
          "sent_generation"?: number | null;
          "sent_to"?: number | null;
          "task_id": string;
          "user_id"?: string | null;
        };
        Update: {
          "expires_at"?: string;
          "reader"?: string;
          "sent_at"?: string | null;
          "sent_attempt"?: number | null;
          "sent_generation"?: number | null;
          "sent_to"?: number | null;
          "task_id"?: string;
          "user_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "watch_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "watch_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "watch_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "work_item": {
        Row: {
          "commit": string | null;
          "decision_seen": string | null;
          "note": string | null;
          "number": number;
          "state": string;
          "taken_at": string;
          "taken_by": string;
          "task_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "commit"?: string | null;
          "decision_seen"?: string | null;
          "note"?: string | null;
          "number": number;
          "state": string;
          "taken_at"?: string;
          "taken_by": string;
          "task_id": string;
          "updated_at"?: string;
        };
        Update: {
          "commit"?: string | null;
          "decision_seen"?: string | null;
          "note"?: string | null;
          "number"?: number;
          "state"?: string;
          "taken_at"?: string;
          "taken_by"?: string;
          "task_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "work_item_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "dead_letters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "work_item_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "work_item_task_id_fkey";
            columns: ["task_id"];
            isOneToOne: false;
            referencedRelation: "task_history";
            referencedColumns: ["id"];
          },
        ];
      };
      "worker": {
        Row: {
          "concurrency": number;
          "id": string;
          "models": (string)[];
          "name": string;
          "protocol": number;
          "seen_at": string;
          "started_at": string;
          "state": string;
          "version": string;
        };
        ComputedFields: never;
        Insert: {
          "concurrency": number;
          "id": string;
          "models"?: (string)[];
          "name": string;
          "protocol"?: number;
          "seen_at"?: string;
          "started_at"?: string;
          "state"?: string;
          "version": string;
        };
        Update: {
          "concurrency"?: number;
          "id"?: string;
          "models"?: (string)[];
          "name"?: string;
          "protocol"?: number;
          "seen_at"?: string;
          "started_at"?: string;
          "state"?: string;
          "version"?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      "budget_now": {
        Row: {
          "daily": number | null;
          "day": string | null;
          "day_lowered_at": string | null;
          "enforcement": string;
          "month_lowered_at": string | null;
          "month_reserved_tokens": number | null;
          "month_reserved_usd": number | null;
          "month_settled_tokens": number | null;
          "month_settled_usd": number | null;
          "monthly": number | null;
          "overrun_tokens": number | null;
          "per_run": number | null;
          "reserved_tokens": number | null;
          "reserved_usd": number | null;
          "run_lowered_at": string | null;
          "scope": string;
          "set_by": string;
          "settled_tokens": number | null;
          "settled_usd": number | null;
          "usd_daily": number | null;
          "usd_monthly": number | null;
          "usd_per_run": number | null;
          "when_spent": string;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "dead_letters": {
        Row: {
          "error_code": string | null;
          "error_message": string | null;
          "failures": number;
          "finished_at": string | null;
          "id": string;
          "project_id": string;
          "sender_key": string;
          "title": string;
        };
        ComputedFields: never;
        Insert: {
          "error_code"?: string | null;
          "error_message"?: string | null;
          "failures"?: number | null;
          "finished_at"?: string | null;
          "id"?: string | null;
          "project_id"?: string | null;
          "sender_key"?: string | null;
          "title"?: string | null;
        };
        Update: {
          "error_code"?: string | null;
          "error_message"?: string | null;
          "failures"?: number | null;
          "finished_at"?: string | null;
          "id"?: string | null;
          "project_id"?: string | null;
          "sender_key"?: string | null;
          "title"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "task_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
        ];
      };
      "decisions": {
        Row: {
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project": string;
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "supersedes": (number)[] | null;
          "task_id": string | null;
          "title": string;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "decision_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "decision_project_id_superseded_by_fkey";
            columns: ["project_id", "superseded_by"];
            isOneToOne: false;
            referencedRelation: "decision";
            referencedColumns: ["project_id", "number"];
          },
          {
            foreignKeyName: "decision_project_id_superseded_by_fkey";
            columns: ["project_id", "superseded_by"];
            isOneToOne: false;
            referencedRelation: "decisions";
            referencedColumns: ["project_id", "number"];
          },
        ];
      };
      "outbox_status": {
        Row: {
          "dead": number | null;
          "destination": string | null;
          "enabled": boolean | null;
          "failures": number | null;
          "kind": string | null;
          "last_error": string | null;
          "last_sent_at": string | null;
          "oldest": string | null;
          "open_until": string | null;
          "pending": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "queue_status": {
        Row: {
          "newest": string | null;
          "next_run_after": string | null;
          "oldest": string | null;
          "state": string;
          "tasks": number | null;
          "wait_reason": string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "spend_by_day": {
        Row: {
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "calls": number | null;
          "day": string;
          "held_calls": number | null;
          "held_tokens": number | null;
          "held_usd": number | null;
          "input_tokens": number | null;
          "output_tokens": number | null;
          "presumed_calls": number | null;
          "presumed_usd": number | null;
          "reasoning_tokens": number | null;
          "tokens": number | null;
          "unknown_calls": number | null;
          "usd": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "spend_by_decision": {
        Row: {
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "calls": number | null;
          "day": string;
          "decision": string | null;
          "held_calls": number | null;
          "held_tokens": number | null;
          "held_usd": number | null;
          "input_tokens": number | null;
          "output_tokens": number | null;
          "presumed_calls": number | null;
          "presumed_usd": number | null;
          "reasoning_tokens": number | null;
          "tokens": number | null;
          "unknown_calls": number | null;
          "usd": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "spend_by_model": {
        Row: {
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "calls": number | null;
          "day": string;
          "held_calls": number | null;
          "held_tokens": number | null;
          "held_usd": number | null;
          "input_tokens": number | null;
          "model": string;
          "output_tokens": number | null;
          "presumed_calls": number | null;
          "presumed_usd": number | null;
          "reasoning_tokens": number | null;
          "tokens": number | null;
          "unknown_calls": number | null;
          "usd": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "spend_by_project": {
        Row: {
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "calls": number | null;
          "day": string;
          "held_calls": number | null;
          "held_tokens": number | null;
          "held_usd": number | null;
          "input_tokens": number | null;
          "output_tokens": number | null;
          "presumed_calls": number | null;
          "presumed_usd": number | null;
          "project": string | null;
          "project_id": string | null;
          "reasoning_tokens": number | null;
          "tokens": number | null;
          "unknown_calls": number | null;
          "usd": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "spend_by_sender": {
        Row: {
          "cache_write_tokens": number | null;
          "cached_tokens": number | null;
          "calls": number | null;
          "day": string;
          "held_calls": number | null;
          "held_tokens": number | null;
          "held_usd": number | null;
          "input_tokens": number | null;
          "output_tokens": number | null;
          "presumed_calls": number | null;
          "presumed_usd": number | null;
          "project_id": string | null;
          "reasoning_tokens": number | null;
          "sender_key": string | null;
          "tokens": number | null;
          "unknown_calls": number | null;
          "usd": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "task_history": {
        Row: {
          "attempts": number;
          "error_code": string | null;
          "error_message": string | null;
          "failures": number;
          "finished_at": string | null;
          "id": string;
          "kind": string;
          "model": string | null;
          "parent_id": string | null;
          "project_id": string;
          "queued_at": string;
          "sender": string | null;
          "sender_key": string;
          "started_at": string | null;
          "state": string;
          "title": string;
          "tokens": number | null;
          "took": string | null;
          "usd": number | null;
          "wait_reason": string | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "task_project_id_fkey";
            columns: ["project_id"];
            isOneToOne: false;
            referencedRelation: "project";
            referencedColumns: ["id"];
          },
        ];
      };
    };
    Functions: {
      "accept": {
        Args: { "p_reason"?: string; "p_supersedes"?: (number)[]; "p_task": string };
        Returns: {
          "asked": (string)[];
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "content": string;
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "task_id": string | null;
          "title": string;
          "words": (string)[];
        };
        SetofOptions: {
          from: "*";
          to: "decision";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "accept_message": {
        Args: {
          "p_event_id": string;
          "p_external_id"?: string;
          "p_message": Json;
          "p_name"?: string;
          "p_provider"?: string;
          "p_source": string;
        };
        Returns: {
          "created": boolean;
          "state": string;
          "task_id": string;
        }[];
      };
      "actor": { Args: Record<PropertyKey, never>; Returns: string };
      "add_member": { Args: { "p_project": string; "p_role"?: string; "p_who": string }; Returns: string };
      "adopt_outbox": { Args: { "p_limit"?: number }; Returns: number };
      "adopt_response": { Args: { "p_response": Json }; Returns: string };
      "announce_budget": {
        Args: {
          "p_level": number;
          "p_most": number;
          "p_period": string;
          "p_scope": string;
          "p_settled": number;
          "p_unit": string;
        };
        Returns: undefined;
      };
      "announce_budgets": { Args: { "p_scopes": (string)[] }; Returns: undefined };
      "announce_decision": {
        Args: {
          "p_decision": Omit<
            Database["atlas"]["Tables"]["decision"]["Row"],
            Database["atlas"]["Tables"]["decision"]["ComputedFields"]
          >;
          "p_event": string;
        };
        Returns: undefined;
      };
      "answer_at": {
        Args: { "p_answer": string; "p_event_id": string; "p_reply_to": string; "p_source": string };
        Returns: string;
      };
      "answer_task": { Args: { "p_answer": string; "p_task_id": string }; Returns: string };
      "append_audit": { Args: { "p_detail"?: Json; "p_event": string; "p_task": string }; Returns: undefined };
      "append_audits": {
        Args: { "p_details": (Json)[]; "p_event": string; "p_tasks": (string)[] };
        Returns: undefined;
      };
      "as_timestamp": { Args: { "value": string }; Returns: string };
      "as_uuid": { Args: { "value": string }; Returns: string };
      "ask_back": {
        Args: { "p_attempt_id": string; "p_content": string; "p_metadata": Json; "p_usages"?: Json };
        Returns: string;
      };
      "attempt_spend": {
        Args: { "p_attempt": string };
        Returns: {
          "call": number;
          "known": string;
          "usd": number;
        }[];
      };
      "audit_digest": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "digest": string;
          "prev_mac": string;
          "rows": number;
          "upto": unknown;
        }[];
      };
      "audit_hash": {
        Args: {
          "actor": string;
          "at": string;
          "detail": Json;
          "event": string;
          "prev_hash": string;
          "seq": number;
          "task_id": string;
        };
        Returns: string;
      };
      "begin_post": {
        Args: { "p_address": string; "p_event_id": string; "p_lease": string; "p_part": string; "p_task_id": string };
        Returns: {
          "external_id": string;
          "since": string;
          "url": string;
          "verdict": string;
        }[];
      };
      "bounded": { Args: { "p_least": string; "p_most": string; "p_value": string }; Returns: string };
      "breaker_open_until": {
        Args: { "p_asked"?: number; "p_failures": number; "p_first": number; "p_longest": number };
        Returns: string;
      };
      "broadcast_interval": { Args: { "p_rate": number }; Returns: string };
      "broadcast_parts": { Args: { "p_attempts": (string)[]; "p_rate": number }; Returns: undefined };
      "caller_role": { Args: Record<PropertyKey, never>; Returns: unknown };
      "cancel_copy": { Args: { "p_task": string }; Returns: undefined };
      "cancel_task": { Args: { "p_attempt_id"?: string; "p_task_id": string; "p_usages"?: Json }; Returns: string };
      "check_control": { Args: { "message": Json }; Returns: undefined };
      "check_ledger": {
        Args: { "p_since"?: string };
        Returns: {
          "expected": number;
          "found": number;
          "problem": string;
          "subject": string;
        }[];
      };
      "check_limits": {
        Args: { "p_limits": Json; "p_prefix"?: string; "p_scope": string; "p_state"?: string; "p_thing"?: string };
        Returns: undefined;
      };
      "check_message": { Args: { "message": Json }; Returns: undefined };
      "check_metadata": { Args: { "metadata": Json }; Returns: undefined };
      "claim_outbox": {
        Args: { "p_destination": string; "p_lease": string; "p_lease_owner": string; "p_limit": number };
        Returns: {
          "created_at": string;
          "event_id": string;
          "event_kind": string;
          "id": number;
          "ordering_key": string;
          "payload": Json;
          "rejections": number;
          "sender_key": string;
          "task_id": string;
        }[];
      };
      "claim_tasks": {
        Args: { "p_chats": number; "p_controls": number; "p_lease": string; "p_worker_id": string };
        Returns: {
          "attempt": number;
          "attempt_id": string;
          "cancel_requested": boolean;
          "inherited": Json;
          "kind": string;
          "label_key": string;
          "lease_expires_at": string;
          "message": Json;
          "message_task_id": string;
          "parent_id": string;
          "per_run": number;
          "per_run_scope": string;
          "project_id": string;
          "queued_at": string;
          "sender_key": string;
          "task_id": string;
        }[];
      };
      "complete_tasks": { Args: { "p_items": Json }; Returns: string[] };
      "continue_audit": { Args: Record<PropertyKey, never>; Returns: boolean };
      "control_command": { Args: { "message": Json }; Returns: Json };
      "cost": {
        Args: {
          "cache_write"?: number;
          "cached": number;
          "factor"?: number;
          "input": number;
          "output": number;
          "price": Omit<
            Database["atlas"]["Tables"]["model_price"]["Row"],
            Database["atlas"]["Tables"]["model_price"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "create_project": { Args: { "p_name": string }; Returns: string };
      "decide": {
        Args: {
          "p_reason": string;
          "p_status": string;
          "p_supersedes": (number)[];
          "p_task": string;
          "p_verb": string;
        };
        Returns: {
          "asked": (string)[];
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "content": string;
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "task_id": string | null;
          "title": string;
          "words": (string)[];
        };
        SetofOptions: {
          from: "*";
          to: "decision";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "decision_chunks": {
        Args: {
          "p_decision": Omit<
            Database["atlas"]["Tables"]["decision"]["Row"],
            Database["atlas"]["Tables"]["decision"]["ComputedFields"]
          >;
        };
        Returns: Json;
      };
      "decision_of": { Args: { "p_task": string }; Returns: string };
      "defer_upstream": { Args: { "p_limit"?: number; "p_message": string }; Returns: number };
      "derive_id": { Args: { "p_count"?: number; "p_name": string }; Returns: string };
      "distance": { Args: { "p_one": string; "p_other": string }; Returns: number };
      "draft": {
        Args: { "p_task": string; "p_verb": string };
        Returns: {
          "adopted_at": string | null;
          "answered": string | null;
          "asked": string | null;
          "attempt_id": string | null;
          "attempts": number;
          "cancel_requested_at": string | null;
          "claim_seq": number | null;
          "dead_letter": boolean;
          "early_losses": number;
          "erased_at": string | null;
          "error_code": string | null;
          "error_message": string | null;
          "escalated_at": string | null;
          "failures": number;
          "finished_at": string | null;
          "id": string;
          "in_id": number;
          "kind": string;
          "losses": number;
          "max_attempts": number;
          "message_task_id": string;
          "model": string | null;
          "out_id": number | null;
          "outage_since": string | null;
          "parent_id": string | null;
          "priority": number;
          "project_id": string;
          "queued_at": string;
          "rank": number;
          "ready": boolean;
          "run_after": string;
          "sender": string | null;
          "sender_key": string;
          "started_at": string | null;
          "state": string;
          "title": string;
          "wait_reason": string | null;
          "wait_scope": string | null;
        };
        SetofOptions: {
          from: "*";
          to: "task";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "drop_documents": { Args: { "p_project": string; "p_sources": (string)[] }; Returns: number };
      "drop_post": { Args: { "p_part": string; "p_task_id": string }; Returns: undefined };
      "due_again": {
        Args: {
          "p_kind": string;
          "p_retry_after": string;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "emit": {
        Args: { "p_event_id"?: string; "p_kind": string; "p_payload": Json; "p_task_id"?: string };
        Returns: number;
      };
      "end_holds": { Args: { "p_limit"?: number }; Returns: number };
      "end_task": {
        Args: {
          "p_code": string;
          "p_message": string;
          "p_state": string;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
          "p_usages": Json;
        };
        Returns: undefined;
      };
      "ended_xacts": { Args: Record<PropertyKey, never>; Returns: unknown };
      "erase": { Args: { "p_task_id": string }; Returns: undefined };
      "erase_decisions": { Args: { "p_tasks": (string)[] }; Returns: number };
      "erase_others": { Args: { "p_limit": number; "p_sender_key": string }; Returns: number };
      "erase_sender": {
        Args: { "p_after"?: string; "p_limit"?: number; "p_sender_key": string };
        Returns: {
          "erased": number;
          "next": string;
          "unfinished": number;
        }[];
      };
      "erase_texts": { Args: { "p_tasks": (string)[] }; Returns: undefined };
      "escalate": { Args: { "p_code": string; "p_message": string; "p_task_id": string }; Returns: undefined };
      "event_of": { Args: { "p_status": string; "p_task": string }; Returns: string };
      "extend_leases": {
        Args: { "p_attempts": (string)[]; "p_lease": string; "p_worker_id": string };
        Returns: {
          "adopted": boolean;
          "attempt_id": string;
          "cancel_requested": boolean;
          "held": boolean;
        }[];
      };
      "extend_post": { Args: { "p_lease": string; "p_part": string; "p_task_id": string }; Returns: boolean };
      "fail_task": {
        Args: {
          "p_attempt_id": string;
          "p_code": string;
          "p_kind"?: string;
          "p_message": string;
          "p_retry_after"?: string;
          "p_usages"?: Json;
        };
        Returns: string;
      };
      "find_task": { Args: { "p_state"?: string; "p_text": string }; Returns: string[] };
      "finish_post": {
        Args: { "p_external_id": string; "p_part": string; "p_task_id": string; "p_url"?: string };
        Returns: undefined;
      };
      "flush_cache": { Args: Record<PropertyKey, never>; Returns: undefined };
      "get_asked": { Args: { "p_task_id": string }; Returns: Json };
      "get_budgets": { Args: Record<PropertyKey, never>; Returns: Json };
      "get_delivery": { Args: { "p_task_id": string }; Returns: Json };
      "get_prompt": { Args: { "p_for": string; "p_task": string }; Returns: Json };
      "get_reply": { Args: { "p_for": string; "p_task_id": string }; Returns: Json };
      "get_task": { Args: { "p_task_id": string }; Returns: Json };
      "get_thread": {
        Args: { "p_for": string; "p_task_id": string };
        Returns: {
          "parent_id": string;
          "question": string;
          "reply": string;
        }[];
      };
      "go_on_with": {
        Args: {
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "grouped": { Args: { "value": number }; Returns: string };
      "has_work": { Args: { "p_chats"?: boolean }; Returns: boolean };
      "hear_issue": {
        Args: { "p_address": string; "p_login": string; "p_number": string; "p_state": string };
        Returns: Json;
      };
      "hear_pull": {
        Args: { "p_address": string; "p_login": string; "p_merged": boolean; "p_number": string; "p_url": string };
        Returns: Json;
      };
      "import_decisions": { Args: { "p_project": string; "p_records": Json }; Returns: Json };
      "in_context": { Args: { "p_asked": Json; "p_payload": Json }; Returns: Json };
      "index_decision": {
        Args: {
          "p_decision": Omit<
            Database["atlas"]["Tables"]["decision"]["Row"],
            Database["atlas"]["Tables"]["decision"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "index_document": {
        Args: {
          "p_chunks": Json;
          "p_commit"?: string;
          "p_kind": string;
          "p_project": string;
          "p_repository"?: string;
          "p_sha256": string;
          "p_source": string;
          "p_title": string;
        };
        Returns: number;
      };
      "inherit_responses": { Args: { "p_tasks": (string)[] }; Returns: undefined };
      "inherited_response": {
        Args: {
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
        };
        Returns: Json;
      };
      "is_filter": { Args: { "filter": Json }; Returns: boolean };
      "is_leaving": { Args: { "p_message_task": string; "p_task": string }; Returns: boolean };
      "is_service": { Args: Record<PropertyKey, never>; Returns: boolean };
      "keep_late_text": {
        Args: {
          "p_attempt_id": string;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
          "p_text": string;
        };
        Returns: undefined;
      };
      "keep_prompts": { Args: { "p_items": Json }; Returns: undefined };
      "known_documents": {
        Args: { "p_project": string; "p_sources": (string)[] };
        Returns: {
          "content_sha256": string;
          "source": string;
        }[];
      };
      "last_task_at": { Args: { "p_reply_to": string }; Returns: string };
      "lease_rate": { Args: { "p_model": string; "p_requests": number; "p_tokens": number }; Returns: Json };
      "list_destinations": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "id": string;
          "kind": string;
          "name": string;
          "secret_name": string;
          "target": string;
        }[];
      };
      "list_members": {
        Args: { "p_project": string };
        Returns: {
          "created_at": string;
          "email": string;
          "role": string;
          "user_id": string;
        }[];
      };
      "list_models": { Args: Record<PropertyKey, never>; Returns: Json };
      "list_repositories": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "chunks": number;
          "commit": string;
          "documents": number;
          "indexed_at": string;
          "project": string;
          "repository": string;
        }[];
      };
      "lock_days": { Args: { "p_days": (string)[]; "p_scopes": (string)[] }; Returns: undefined };
      "mark_worker": { Args: { "p_state": string; "p_worker_id": string }; Returns: number };
      "matches": { Args: { "data": Json; "event_kind": string; "filter": Json; "sender": string }; Returns: boolean };
      "measure_models": { Args: Record<PropertyKey, never>; Returns: number };
      "message_sha256": { Args: { "p_data": Json }; Returns: string };
      "my_projects": { Args: Record<PropertyKey, never>; Returns: string[] };
      "my_scopes": { Args: Record<PropertyKey, never>; Returns: (string)[] };
      "names_of": {
        Args: { "p_users": (string)[] };
        Returns: {
          "email": string;
          "user_id": string;
        }[];
      };
      "nearest": { Args: { "p_known": (string)[]; "p_word": string }; Returns: string };
      "new_id": { Args: Record<PropertyKey, never>; Returns: string };
      "next_decision": { Args: { "p_project": string }; Returns: number };
      "next_due": { Args: Record<PropertyKey, never>; Returns: number };
      "next_tasks": { Args: { "p_most": number }; Returns: (string)[] };
      "open_day": { Args: { "p_day": string; "p_scope": string }; Returns: undefined };
      "owns_task": { Args: { "task": string }; Returns: boolean };
      "pause": { Args: { "p_reason"?: string }; Returns: undefined };
      "planned_items": { Args: { "p_task": string; "p_verb": string }; Returns: Json };
      "price_factor_of": { Args: { "p_tier": string; "p_window": string }; Returns: number };
      "price_on": {
        Args: { "day": string; "model_name": string };
        Returns: {
          "cache_write_usd": number | null;
          "cached_usd": number | null;
          "input_usd": number;
          "long_input_factor": number;
          "long_input_from": number | null;
          "long_output_factor": number;
          "model": string;
          "output_usd": number;
          "valid_from": string;
        };
        SetofOptions: {
          from: "*";
          to: "model_price";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "project_of": { Args: { "named": string; "sender": string }; Returns: string };
      "prompt_turns": { Args: { "p_body": Json }; Returns: Json };
      "protocols": { Args: Record<PropertyKey, never>; Returns: unknown };
      "provide_topic": { Args: { "p_target": string }; Returns: string };
      "queue_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "quote_task": { Args: { "p_project"?: string; "p_tier"?: string; "p_window"?: string }; Returns: Json };
      "raise_lost": { Args: { "p_attempt_id": string }; Returns: undefined };
      "raise_notifications": { Args: Record<PropertyKey, never>; Returns: number };
      "read_first": { Args: { "p_task": string }; Returns: Json };
      "read_parts": {
        Args: { "p_attempt"?: number; "p_generation"?: number; "p_offset"?: number; "p_task_id": string };
        Returns: {
          "attempt": number;
          "generation": number;
          "offset": number;
          "seq": number;
          "text": string;
        }[];
      };
      "read_prompts": {
        Args: { "p_task": string };
        Returns: {
          "attempt": number;
          "call": number;
          "made_at": string;
          "model": string;
          "parameters": Json;
          "sha256": string;
          "sources": Json;
          "turns": Json;
          "version": string;
        }[];
      };
      "read_source": {
        Args: { "p_sha256": string };
        Returns: {
          "end_line": number;
          "heading": string;
          "source": string;
          "start_line": number;
          "text": string;
        }[];
      };
      "ready_projects": { Args: { "p_most": number; "p_rank": number }; Returns: string[] };
      "ready_senders": { Args: { "p_most": number; "p_project": string; "p_rank": number }; Returns: string[] };
      "ready_tasks": { Args: { "p_most": number; "p_project": string; "p_rank": number }; Returns: string[] };
      "record_destination": {
        Args: { "p_destination": string; "p_error"?: string; "p_ok": boolean; "p_seconds"?: number };
        Returns: string;
      };
      "record_model": {
        Args: { "p_error"?: string; "p_model": string; "p_outcome": string; "p_trial"?: boolean };
        Returns: string;
      };
      "record_probe": {
        Args: { "p_error"?: string; "p_model": string; "p_ok": boolean; "p_shutdown_at"?: string };
        Returns: undefined;
      };
      "record_progress": {
        Args: { "p_items": Json; "p_rate"?: number };
        Returns: {
          "attempt_id": string;
        }[];
      };
      "record_rate": { Args: { "p_limits": Json; "p_model": string; "p_retry_after"?: string }; Returns: undefined };
      "record_usage": { Args: { "p_items": Json }; Returns: number };
      "record_words": {
        Args: { "p_constraints": (string)[]; "p_question": string; "p_title": string };
        Returns: (string)[];
      };
      "refuse": {
        Args: { "field": string; "fix": string; "problem": string; "state"?: string; "thing"?: string };
        Returns: undefined;
      };
      "register_worker": {
        Args: {
          "p_concurrency": number;
          "p_models"?: (string)[];
          "p_name": string;
          "p_protocol"?: number;
          "p_version": string;
          "p_worker_id": string;
        };
        Returns: undefined;
      };
      "reject": {
        Args: { "p_reason"?: string; "p_task": string };
        Returns: {
          "asked": (string)[];
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "content": string;
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "task_id": string | null;
          "title": string;
          "words": (string)[];
        };
        SetofOptions: {
          from: "*";
          to: "decision";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "reject_message": {
        Args: { "p_event_id": string; "p_payload": Json; "p_reason": string; "p_source": string };
        Returns: boolean;
      };
      "release_expired": { Args: { "p_limit"?: number }; Returns: number };
      "release_task": {
        Args: {
          "p_code"?: string;
          "p_message"?: string;
          "p_reason": string;
          "p_state": string;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
          "p_until": string;
        };
        Returns: undefined;
      };
      "remove_member": { Args: { "p_project": string; "p_who": string }; Returns: boolean };
      "renew_audit_key": { Args: Record<PropertyKey, never>; Returns: undefined };
      "replay_outbox": {
        Args: { "p_destination"?: string; "p_since"?: string; "p_task_id"?: string; "p_until"?: string };
        Returns: number;
      };
      "reply": {
        Args: {
          "p_content": string;
          "p_metadata": Json;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
          "p_type": string;
        };
        Returns: number;
      };
      "reply_metadata": { Args: { "p_metadata": Json; "p_parent": string }; Returns: Json };
      "report_progress": { Args: { "p_every": string }; Returns: number };
      "report_work_item": {
        Args: {
          "p_commit"?: string;
          "p_deviations"?: Json;
          "p_note"?: string;
          "p_number": number;
          "p_state": string;
          "p_task": string;
        };
        Returns: Json;
      };
      "request_export": {
        Args: {
          "p_event_id"?: string;
          "p_reply_to"?: string;
          "p_repository"?: string;
          "p_task_id": string;
          "p_what": string;
        };
        Returns: string;
      };
      "require_decider": { Args: { "p_project": string; "p_verb": string }; Returns: undefined };
      "require_member": { Args: { "p_project": string }; Returns: undefined };
      "require_protocol": { Args: { "p_oldest": number }; Returns: undefined };
      "reserve_one": {
        Args: {
          "p_call": number;
          "p_input": number;
          "p_model": string;
          "p_output": number;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
          "p_tier": string;
          "p_window": string;
        };
        Returns: Json;
      };
      "reserve_tokens": { Args: { "p_requests": Json }; Returns: Json[] };
      "resume": { Args: Record<PropertyKey, never>; Returns: undefined };
      "retry_outbox": { Args: { "p_ids": (number)[] }; Returns: number };
      "retry_task": { Args: { "p_task_id": string }; Returns: string };
      "routes": { Args: { "data": Json; "event_kind": string; "sender": string }; Returns: string[] };
      "scopes_of": { Args: { "model": string; "project": string; "sender": string }; Returns: (string)[] };
      "seal_audit": {
        Args: {
          "p_digest": string;
          "p_mac": string;
          "p_next_check": string;
          "p_prev_mac": string;
          "p_proof": string;
          "p_rows": number;
          "p_upto": unknown;
        };
        Returns: undefined;
      };
      "search_knowledge": {
        Args: { "p_collapse"?: boolean; "p_project"?: string; "p_query": string; "p_top_k"?: number };
        Returns: {
          "chunk_id": number;
          "commit": string;
          "end_line": number;
          "heading": string;
          "kind": string;
          "score": number;
          "sha256": string;
          "similarity": number;
          "similarity_kind": string;
          "source": string;
          "start_line": number;
          "text": string;
          "title": string;
          "tokens": number;
        }[];
      };
      "sender_of": {
        Args: {
          "p_message": Omit<
            Database["public"]["Tables"]["architect_in"]["Row"],
            Database["public"]["Tables"]["architect_in"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "set_budget": {
        Args: { "p_limits": Json; "p_scope": string; "p_set_by"?: string };
        Returns: {
          "controlled": (string)[];
          "created_at": string;
          "daily": number | null;
          "day_lowered_at": string | null;
          "enforcement": string;
          "month_lowered_at": string | null;
          "monthly": number | null;
          "per_run": number | null;
          "run_lowered_at": string | null;
          "scope": string;
          "set_by": string;
          "updated_at": string;
          "usd_daily": number | null;
          "usd_monthly": number | null;
          "usd_per_run": number | null;
          "when_spent": string;
        };
        SetofOptions: {
          from: "*";
          to: "budget";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "set_retention": { Args: { "p_tasks": string; "p_texts"?: string }; Returns: undefined };
      "set_spend_rules": { Args: { "p_rules": Json }; Returns: undefined };
      "settle_attempts": {
        Args: { "p_attempts": (string)[]; "p_details"?: Json; "p_event"?: string; "p_usages": Json };
        Returns: undefined;
      };
      "settle_call": { Args: { "p_spend_id": number; "p_usage": Json }; Returns: undefined };
      "settle_in": {
        Args: { "p_days": (string)[]; "p_details"?: Json; "p_event"?: string; "p_items": Json; "p_scopes": (string)[] };
        Returns: undefined;
      };
      "settle_outbox": {
        Args: {
          "p_failed"?: Json;
          "p_lease_owner": string;
          "p_rejected"?: Json;
          "p_released"?: (number)[];
          "p_sent": (number)[];
        };
        Returns: number;
      };
      "settle_spends": {
        Args: { "p_days": (string)[]; "p_items": Json; "p_scopes": (string)[] };
        Returns: {
          "calls": Json;
          "task_id": string;
        }[];
      };
      "share_of": {
        Args: { "p_project": string; "p_sender": string };
        Returns: {
          "daily": number;
          "usd_daily": number;
        }[];
      };
      "skip_outbox": { Args: { "p_ids": (number)[] }; Returns: number };
      "stale_documents": {
        Args: { "p_keep": (string)[]; "p_project": string; "p_under": (string)[] };
        Returns: (string)[];
      };
      "submit_task": {
        Args: { "data": Json; "sender"?: string };
        Returns: {
          "created": boolean;
          "state": string;
          "task_id": string;
        }[];
      };
      "supersede": {
        Args: { "p_by": number; "p_number": number; "p_project": string; "p_reason"?: string };
        Returns: {
          "asked": (string)[];
          "asked_by": string;
          "checks": (string)[];
          "constraints": (string)[];
          "content": string;
          "decided_at": string;
          "decided_by": string;
          "file": string | null;
          "number": number;
          "paths": (string)[];
          "project_id": string;
          "question": string;
          "reason": string | null;
          "sources": (string)[];
          "status": string;
          "superseded_at": string | null;
          "superseded_by": number | null;
          "superseded_reason": string | null;
          "task_id": string | null;
          "title": string;
          "words": (string)[];
        };
        SetofOptions: {
          from: "*";
          to: "decision";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "take_orphans": {
        Args: { "p_limit"?: number };
        Returns: {
          "attempt_id": string;
          "response_id": string;
          "spend_id": number;
        }[];
      };
      "take_probes": { Args: Record<PropertyKey, never>; Returns: string[] };
      "take_trial": { Args: { "p_model": string }; Returns: boolean };
      "take_work_item": {
        Args: { "p_number": number; "p_task": string };
        Returns: {
          "commit": string | null;
          "decision_seen": string | null;
          "note": string | null;
          "number": number;
          "state": string;
          "taken_at": string;
          "taken_by": string;
          "task_id": string;
          "updated_at": string;
        };
        SetofOptions: {
          from: "*";
          to: "work_item";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "task_progress": { Args: { "p_task_id": string }; Returns: Json };
      "task_state": { Args: { "p_task_id": string }; Returns: Json };
      "texts_of": { Args: { "p_list": Json }; Returns: (string)[] };
      "today": { Args: Record<PropertyKey, never>; Returns: string };
      "trim_history": {
        Args: { "p_limit"?: number };
        Returns: {
          "parts": number;
          "tasks": number;
          "texts": number;
        }[];
      };
      "trim_inbound": { Args: { "p_keep"?: string }; Returns: number };
      "trim_messages": { Args: { "p_keep"?: string }; Returns: number };
      "trim_outbox": { Args: { "p_keep": string; "p_limit"?: number }; Returns: number };
      "trim_parts": { Args: { "p_before": string; "p_limit": number }; Returns: number };
      "trim_prompt_texts": { Args: Record<PropertyKey, never>; Returns: number };
      "trim_tasks": { Args: { "p_before": string; "p_limit": number }; Returns: number };
      "trim_texts": { Args: { "p_before": string; "p_limit": number }; Returns: number };
      "uid": { Args: Record<PropertyKey, never>; Returns: string };
      "user_of": { Args: { "p_who": string }; Returns: string };
      "verify_audit": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "audit_id": number;
          "problem": string;
          "task_id": string;
        }[];
      };
      "wait_for_budget": {
        Args: {
          "p_answer": Json;
          "p_task": Omit<
            Database["atlas"]["Tables"]["task"]["Row"],
            Database["atlas"]["Tables"]["task"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "wait_for_holds": { Args: { "p_tasks": (string)[] }; Returns: undefined };
      "wake_upstream": { Args: { "p_limit"?: number }; Returns: number };
      "wake_waiting": { Args: { "p_all"?: boolean; "p_limit": number; "p_scopes": (string)[] }; Returns: undefined };
      "wake_workers": { Args: { "p_also_busy"?: boolean; "p_queued"?: number }; Returns: undefined };
      "wants": { Args: { "value": string; "wanted": Json }; Returns: boolean };
      "watch_audit": { Args: { "p_every"?: string; "p_rows"?: number }; Returns: number };
      "watch_ledger": { Args: { "p_every"?: string }; Returns: Json };
      "watch_task": { Args: { "p_reader": string; "p_task_id": string }; Returns: string };
      "without_texts": { Args: { "p_data": Json }; Returns: Json };
      "words_of": { Args: { "p_text": string }; Returns: (string)[] };
      "work_items": {
        Args: { "p_task": string };
        Returns: {
          "commit": string;
          "decision": string;
          "depends_on": (number)[];
          "item": Json;
          "note": string;
          "number": number;
          "state": string;
          "taken_at": string;
          "taken_by": string;
          "title": string;
        }[];
      };
      "worst_cost": {
        Args: {
          "factor"?: number;
          "input": number;
          "output": number;
          "price": Omit<
            Database["atlas"]["Tables"]["model_price"]["Row"],
            Database["atlas"]["Tables"]["model_price"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "xact_base": { Args: Record<PropertyKey, never>; Returns: number };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
  "public": {
    Tables: {
      "architect_in": {
        Row: {
          "created_at": string;
          "data": NonNullable<Json>;
          "id": number;
          "sender": string | null;
          "task_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "data": NonNullable<Json>;
          "id"?: never;
          "sender"?: string | null;
          "task_id": string;
        };
        Update: {
          "created_at"?: string;
          "data"?: NonNullable<Json>;
          "id"?: never;
          "sender"?: string | null;
          "task_id"?: string;
        };
        Relationships: [];
      };
      "architect_out": {
        Row: {
          "created_at": string;
          "data": NonNullable<Json>;
          "event_id": string;
          "id": number;
          "owner": string | null;
          "project_id": string | null;
          "task_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "data": NonNullable<Json>;
          "event_id"?: string;
          "id"?: never;
          "owner"?: string | null;
          "project_id"?: string | null;
          "task_id": string;
        };
        Update: {
          "created_at"?: string;
          "data"?: NonNullable<Json>;
          "event_id"?: string;
          "id"?: never;
          "owner"?: string | null;
          "project_id"?: string | null;
          "task_id"?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      [_ in never]: never;
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "atlas": {
    Enums: {},
  },
  "public": {
    Enums: {},
  },
} as const;
