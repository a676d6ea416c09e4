/* From the contract's functions to the filter's. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

/* The bindings ask for this where their type information is linked in; here it is added when the component is made. */
void __component_type_object_force_link_bindings(void) {}

/* What the bindings' resource stands for. */
struct exports_wsgate_filter_handler_session_t {
    void *connection;
};

static wsgate_interest interest_of_filter(void) {
    const wsgate_filter *filter = &wsgate_the_filter;
    wsgate_interest interest = {.kinds = WSGATE_FILTER_TYPES_KINDS_TEXT | WSGATE_FILTER_TYPES_KINDS_BINARY};
    if (filter->on_message) {
        interest.hooks |= WSGATE_FILTER_TYPES_HOOKS_TO_UPSTREAM | WSGATE_FILTER_TYPES_HOOKS_TO_CLIENT;
    }
    if (filter->on_delivery) interest.hooks |= WSGATE_FILTER_TYPES_HOOKS_DELIVERY;
    if (filter->on_identity) interest.hooks |= WSGATE_FILTER_TYPES_HOOKS_IDENTITY;
    if (filter->on_close) interest.hooks |= WSGATE_FILTER_TYPES_HOOKS_CLOSE;
    return interest;
}

bool exports_wsgate_filter_handler_init(bindings_string_t *json, wsgate_interest *interest, bindings_string_t *error) {
    *interest = interest_of_filter();
    *error = (wsgate_string){NULL, 0};
    wsgate_config *config = wsgate_config_parse(*json);
    if (wsgate_the_filter.init) *error = wsgate_the_filter.init(config, interest);
    wsgate_string found = wsgate_config_finish(config);
    bindings_string_free(json);
    /* What is wrong with a key comes first: the filter saw a default instead. */
    if (found.len) {
        bindings_string_free(error);
        *error = found;
    }
    return error->len == 0;
}

static exports_wsgate_filter_handler_own_session_t session(void *connection) {
    exports_wsgate_filter_handler_session_t *made = malloc(sizeof *made);
    if (!made) __builtin_trap();
    made->connection = connection;
    return exports_wsgate_filter_handler_session_new(made);
}

bool exports_wsgate_filter_handler_open(wsgate_handshake *handshake, exports_wsgate_filter_handler_admission_t *ret,
                                        wsgate_refusal *refusal) {
    wsgate_admission admission = {0};
    *refusal = (wsgate_refusal){.status = 500};
    void *connection = wsgate_the_filter.open(handshake, &admission, refusal);
    exports_wsgate_filter_handler_handshake_free(handshake);
    if (!connection) return false;
    *ret = (exports_wsgate_filter_handler_admission_t){
        .session = session(connection),
        .interest = admission.interest,
        .upstream_headers = admission.upstream_headers,
        .client_headers = admission.client_headers,
        .subprotocol = admission.subprotocol,
        .upstream = admission.upstream,
        .tags = admission.tags,
    };
    return true;
}

/* What `open` says of a connection that is open already. */
static void *reopened(wsgate_handshake *handshake, wsgate_rejection *rejection) {
    wsgate_admission admission = {0};
    wsgate_refusal refusal = {.status = 500};
    void *connection = wsgate_the_filter.open(handshake, &admission, &refusal);
    if (!connection) {
        rejection->tag = EXPORTS_WSGATE_FILTER_HANDLER_REJECTION_CLOSE;
        rejection->val.close = (wsgate_close_info){1008, wsgate_copy("no longer admitted")};
    }
    return connection;
}

bool exports_wsgate_filter_handler_resume(wsgate_handshake *handshake, bindings_list_u8_t *state,
                                          exports_wsgate_filter_handler_resume_cause_t cause,
                                          exports_wsgate_filter_handler_resumed_t *ret, wsgate_rejection *rejection) {
    void *connection;
    *rejection = (wsgate_rejection){.tag = EXPORTS_WSGATE_FILTER_HANDLER_REJECTION_KEEP_OLD};
    if (wsgate_the_filter.resume) connection = wsgate_the_filter.resume(handshake, state, cause, rejection);
    else connection = reopened(handshake, rejection);
    exports_wsgate_filter_handler_handshake_free(handshake);
    if (state) bindings_list_u8_free(state);
    if (!connection) {
        if (rejection->tag == EXPORTS_WSGATE_FILTER_HANDLER_REJECTION_KEEP_OLD && !rejection->val.keep_old.len) {
            rejection->val.keep_old = wsgate_copy("the filter did not take over");
        }
        return false;
    }
    *ret = (exports_wsgate_filter_handler_resumed_t){.session = session(connection)};
    return true;
}

static bool told(wsgate_verdict verdict, wsgate_filter_types_verdict_t *ret, wsgate_string *error) {
    if (verdict.is_err) *error = verdict.val.err;
    else *ret = verdict.val.ok;
    return !verdict.is_err;
}

bool exports_wsgate_filter_handler_method_session_on_message(
    exports_wsgate_filter_handler_borrow_session_t self, exports_wsgate_filter_handler_direction_t direction,
    wsgate_message *message, wsgate_filter_types_verdict_t *ret, wsgate_string *error) {
    wsgate_verdict verdict =
        wsgate_the_filter.on_message ? wsgate_the_filter.on_message(self->connection, direction, message) : wsgate_forward();
    wsgate_filter_types_message_free(message);
    return told(verdict, ret, error);
}

bool exports_wsgate_filter_handler_method_session_on_delivery(exports_wsgate_filter_handler_borrow_session_t self,
                                                              wsgate_string *topic, wsgate_message *message,
                                                              wsgate_filter_types_verdict_t *ret, wsgate_string *error) {
    wsgate_verdict verdict =
        wsgate_the_filter.on_delivery ? wsgate_the_filter.on_delivery(self->connection, topic, message) : wsgate_forward();
    bindings_string_free(topic);
    wsgate_filter_types_message_free(message);
    return told(verdict, ret, error);
}

static bool done(wsgate_actions_result result, exports_wsgate_filter_handler_list_action_t *ret, wsgate_string *error) {
    if (result.is_err) *error = result.val.err;
    else *ret = result.val.ok;
    return !result.is_err;
}

bool exports_wsgate_filter_handler_method_session_on_tick(exports_wsgate_filter_handler_borrow_session_t self,
                                                          exports_wsgate_filter_handler_list_action_t *ret,
                                                          wsgate_string *error) {
    return done(wsgate_the_filter.on_tick ? wsgate_the_filter.on_tick(self->connection) : wsgate_actions(NULL, 0), ret, error);
}

bool exports_wsgate_filter_handler_method_session_on_identity(exports_wsgate_filter_handler_borrow_session_t self,
                                                              wsgate_identity *identity,
                                                              exports_wsgate_filter_handler_list_action_t *ret,
                                                              wsgate_string *error) {
    wsgate_actions_result result = wsgate_the_filter.on_identity
                                       ? wsgate_the_filter.on_identity(self->connection, identity)
                                       : wsgate_actions(NULL, 0);
    exports_wsgate_filter_handler_identity_free(identity);
    return done(result, ret, error);
}

void exports_wsgate_filter_handler_method_session_on_close(exports_wsgate_filter_handler_borrow_session_t self,
                                                           exports_wsgate_filter_handler_closer_t by,
                                                           wsgate_close_info *info) {
    if (wsgate_the_filter.on_close) wsgate_the_filter.on_close(self->connection, by, info);
    wsgate_filter_types_close_info_free(info);
}

bool exports_wsgate_filter_handler_method_session_save(exports_wsgate_filter_handler_borrow_session_t self,
                                                       wsgate_bytes *ret) {
    return wsgate_the_filter.save && wsgate_the_filter.save(self->connection, ret);
}

void exports_wsgate_filter_handler_session_destructor(exports_wsgate_filter_handler_session_t *self) {
    if (wsgate_the_filter.drop) wsgate_the_filter.drop(self->connection);
    else free(self->connection);
    free(self);
}
